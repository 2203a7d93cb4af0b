"""Alerts that come with time and not with a reading: missing data, and clocks of gateways that are wrong.

Read `no_data` first, which checks all series by `no_data_check`, then `gateway_clock`.
"""

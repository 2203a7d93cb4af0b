"""Gateways: what their keys may write to, whose each sensor is, and what is counted of their uploads.

`binding` makes the upload of a bound key that of its gateway, `owners` decides who may write to and describe a sensor,
`statistics` counts uploads, `unknown_fields` what was left out of them, and `refusals` keeps the last ones of which
something was refused.
"""

"""Gateways: the sensors that their keys may write to, the owners of sensors, and counts of uploads.

`binding` turns the upload of a bound key into one of its gateway, `owners` decides who may write to and describe a
sensor, `statistics` counts uploads, `unknown_fields` counts fields that were left out of them, and `refusals` keeps the
last uploads of which something was refused.
"""

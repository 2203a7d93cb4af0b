"""Sensors and gateways over HTTP: their state, their latest values and the limits of their rules.

Read `routes` first, then `listing` (what is shown of a sensor), `changes` (what operators change) and `removal` (of
deleted sensors, by the worker). `gateways` and `gateway_metrics` are about gateways, `limits` is about limits of rules.
"""

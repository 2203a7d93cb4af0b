"""Sensors and gateways over HTTP: their state, their latest values and the limits of their rules."""

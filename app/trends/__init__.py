"""Sensors, raw readings and trends over HTTP."""

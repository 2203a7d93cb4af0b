"""Tidegauge: sensor readings in; trends, alerts and a live feed out."""

__version__ = "0.1.0"

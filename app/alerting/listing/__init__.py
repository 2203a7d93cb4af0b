"""Alerts and rules as the API lists them."""

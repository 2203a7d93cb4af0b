"""Alerts by threshold rules on stored readings, evaluated in event time."""

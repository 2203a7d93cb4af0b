"""Threshold rules over stored readings: episodes in event time."""

"""Sensors and series: their registration and limits, and what uploads say of a sensor beside its values.

A series id is a small integer that stands for a pair of sensor and metric in stored readings. Read `registry` first;
`descriptions` stores tags, gateways and units.
"""

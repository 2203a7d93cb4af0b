"""Computation of episodes from readings and rules, without a database or a clock.

Read `samples` first, then `machine` (the definition), `replay` (the same result from fewer readings), `revision` (late
readings) and `timed` (rules whose episodes change between readings). `shortcut` proves for most new readings that no
episode changes. `reasons` names why alerts end otherwise than by readings.
"""

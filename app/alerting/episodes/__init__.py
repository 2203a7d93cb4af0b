"""Episodes as pure functions of readings and rules: no database, no clock.

Read `samples` first, then `machine` (the definition), `replay` (the same at less cost) and `revision` (late readings).
"""

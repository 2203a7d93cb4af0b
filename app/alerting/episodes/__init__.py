"""Computation of episodes from readings and rules, without a database or a clock.

Read `samples` first, then `machine` (the definition), `replay` (the same result from fewer readings) and `revision`
(late readings).
"""

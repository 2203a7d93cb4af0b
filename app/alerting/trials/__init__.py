"""Trials of rules that send no message: unit tests on readings written by hand, and backtests on stored readings."""

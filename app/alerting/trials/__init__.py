"""Trials of rules that send no message: unit tests on readings written by hand, and backtests on stored readings.

Unit tests: `rule_test_files` reads a file by `rule_test_grammar` and `series_notation`, `rule_tests` runs it, and
`junit` writes the results. Backtests: `backtest` reads the stored readings, `backtest_run` runs one rule over one
series, and `backtest_report` describes the result. `against_data` compares rules with what sensors send.
"""

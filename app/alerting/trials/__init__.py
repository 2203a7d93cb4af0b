"""Rules tried out without telling anybody: tests with readings written by hand, and backtests over stored ones."""

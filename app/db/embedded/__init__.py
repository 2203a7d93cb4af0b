"""The embedded server: a private TimescaleDB for one DATA_DIR, on a machine that has nothing but Python.

Read `server` first, then `programs` (where PostgreSQL comes from), `cluster` (its files) and `postmaster` (one run).
"""

"""The embedded server: a private TimescaleDB for one DATA_DIR, for machines where no database is installed.

Read `server` first, then `programs` (finds or fetches PostgreSQL), `cluster` (the files of a database), `postmaster`
(one run of the server) and its `launcher`. `debian` and `apt_sources` fetch PostgreSQL from a Debian archive.
"""

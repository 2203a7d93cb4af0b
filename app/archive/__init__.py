"""Archives: all data of a database as a tar of CSV files, to be imported into another database.

The other database may have the other edition of TimescaleDB, another version of it or of PostgreSQL, or a newer schema.
Read `tables` first (what an archive holds), then `manifest` and `files` (its form), `export` and `load`.
"""

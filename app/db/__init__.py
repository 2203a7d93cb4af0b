"""The database: pool, named queries, migrations, editions and the embedded server."""

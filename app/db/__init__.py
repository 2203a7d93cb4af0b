"""The database: connections, named queries, migrations, aggregates, the lease and the embedded server."""

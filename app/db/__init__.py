"""The database: connections, named queries, migrations, aggregates, the lease and the embedded server.

Read `pool` first (every session), then `queries` (named SQL), `migrations` with `edition`, `aggregates` and `rights`,
`lease` (one worker leads), `shared` (state of several processes) and `clock`. `servers` is about what may be wrong with
a server, and `embedded` is the private server of `make run`.
"""

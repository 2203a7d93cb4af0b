"""Ingest: body formats, registration of series, and the flush that stores readings.

Read `formats` and `routes` first (one module for each format, with its route), then `intake` (reads a body and lets it
be parsed and stored) with `bodies` (bytes of bodies, within limits), `checks` (of values, times and tags) and `dry_run`
(uploads that are only tried). `uploads` has the parsed readings, the receipt, and the lanes in which uploads wait. Then
`writer` (one flush for several of them), `series` (ids of series), `flush` (the transaction) and `gateways` (keys,
owners, statistics). `imports` stores CSV files by the same writer.
"""

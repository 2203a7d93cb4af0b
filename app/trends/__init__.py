"""Raw readings and trends over HTTP.

Read `routes` first, then `parameters` (times and ranges), `series` (from names to ids), `resolution` (the width of
buckets) and `local_days` (days of a time zone). `page_end` bounds the reads of a page, `csv_answer` writes CSV, and
`export` is `tidegauge export`.
"""

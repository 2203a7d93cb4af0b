"""Import of CSV files, by the same writer as uploads.

Read `table` first (from a line to a reading or a refusal), then `files` (blocks of lines, progress, rejected rows) and
`run`, which stores a file block by block.
"""

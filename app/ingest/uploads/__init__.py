"""Parsed uploads: their readings as columns, what was refused of them, and the receipt that answers them.

Read `upload` first, then `readings` and `receipt`. `route` is a quick route for all formats, `lanes` has the uploads
that wait to be stored, `log` logs stored ones.
"""

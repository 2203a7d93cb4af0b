"""Request bodies as bytes: limits, decompression, and JSON and MessagePack in small pieces.

Read `receive` first (a body as it is sent) with `room` (the limit of all bodies), then `compression` and `document` (a
body whose shape is not known yet). `pieces`, `msgpack_pieces` and `lines` split large bodies; `loose_json` reads JSON
with mistakes.
"""

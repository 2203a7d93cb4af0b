"""The live feed: from NOTIFY to WebSocket clients.

Read `listener` first, which reads new rows of the table `feed`, then `hub` (hands them to subscribers), `session` (one
client) and `protocol` (messages).
"""

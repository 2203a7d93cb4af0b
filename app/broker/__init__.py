"""The notification broker: an HTTP API that sends one notification to Slack and Telegram while the client waits.

Read `routes` first, then `request` (what clients send), `broker` (one notification), `delivery` (one channel, with
retries), `format` (the messages), `pacing` and `rates` (limits), `store` (what is kept) and `openapi` (the
description).
"""

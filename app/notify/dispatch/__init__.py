"""Delivery of the outbox: claims, attempts, test messages, and the dispatcher that runs them.

Read `dispatcher` first, then `claims` (the right to send a message once), `attempts` (what follows from an attempt) and
`channel_tests`.
"""

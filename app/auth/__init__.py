"""API keys: hashing, scopes, limits, the guard that checks them, and the route that describes a key.

Read `keys` first (a key, and how it is stored), then `key_ring` (authentication) and `guard` (what a route demands).
"""

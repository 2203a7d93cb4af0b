"""API keys: hashing, scopes, limits, the guard that checks them, and what a key learns of itself."""

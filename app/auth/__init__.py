"""API keys: hashing, scopes, limits and the guard that checks them."""

"""API keys: hashing, scopes, limits, the guard that checks them, and the route that describes a key."""

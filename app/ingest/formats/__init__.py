"""One module a body format: each parses bytes into readings."""

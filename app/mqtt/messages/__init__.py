"""What a message says: its topic by patterns, the values and the time in its payload, the reading of both."""

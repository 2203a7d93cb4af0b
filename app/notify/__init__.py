"""Messages to people: outbox, pacing, channels."""

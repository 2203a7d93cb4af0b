"""Delivery of messages to people: the outbox, pacing, and the channels."""

"""Delivery of the outbox: claims, attempts, test messages, and the dispatcher that runs them."""

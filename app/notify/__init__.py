"""Delivery of messages to people: the outbox, pacing, and the channels.

Read `outbox` first (a message from its enqueueing to its end), then `dispatch` (sends what is due) and `channels` (a
module for each service). `message` and `message_lines` are what a channel renders, `transport` is the HTTP of all
channels, `pacing` spaces messages to one destination, and `channel_states` knows which channels are broken.
"""

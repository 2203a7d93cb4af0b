"""Messages about stored episodes: decides which channel is sent what and when, and writes the messages.

`situation` loads the episodes (`untold`) and what was told of them. `decisions` compares both. `planner` fills the
outbox, and composes a message when it is claimed. `messages` writes its entries. `gateway_rules` is about alerts of
whole gateways. Apart from these, `watchdog` asks an address while rules are evaluated.
"""

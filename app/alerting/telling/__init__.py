"""From stored episodes to messages: decides who is told what and when, and writes the text.

`situation` loads what is known, `decisions` compares it with what was told, `planner` fills the outbox, and
`messages` writes a message at the moment it is sent.
"""

"""From new readings to stored episodes: evaluates what flushes left in `dirty`, and watches for missing data.

What people are told about the episodes is the task of `telling`; the two meet in the table alert_episode only.
"""

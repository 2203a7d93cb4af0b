"""Evaluation of rules: turns the readings listed in `dirty` into stored episodes, and checks for missing data.

Messages about the episodes are the task of `telling`. The two packages share only the table alert_episode.
"""

"""Evaluation of rules: turns the readings listed in `dirty` into stored episodes, and checks for missing data.

Messages about the episodes are the task of `telling`. The two packages share only the table alert_episode.

Read `evaluator` first (one evaluation), then `dirty` (the new readings that it takes), `loading` and `progress` (the
states of pairs of rule and series), `source` (readings for replays) and `rule_changes`. `writing` stores the episodes,
`timed` is for rules that hold values or have a second metric, and `watching` checks for missing data and wrong clocks;
both need to know of breaks of ingest (`ingest_break`).
"""

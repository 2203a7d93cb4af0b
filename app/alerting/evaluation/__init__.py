"""Evaluation of rules: turns the readings listed in `dirty` into stored episodes, and checks for missing data.

Messages about the episodes are the task of `telling`. The two packages share only the table alert_episode.

Read `evaluator` first (one evaluation), then `dirty` (the new readings that it takes), `loading` and `progress` (the
states of pairs of rule and series), `source` (readings for replays), `stored_episodes` and `episode_values` (what is
written), `alert_feed` (changes for the live feed) and `rule_changes`.
`timed` is for rules that hold values or have a second metric. `no_data` checks for missing data, `gateway_clock` for
wrong clocks.
"""

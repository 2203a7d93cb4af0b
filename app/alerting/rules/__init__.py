"""Checked rules: their structs, their matching with series, and the rules in force.

Read `model` first (what a rule file says), then `matching` (which rules apply to a series), `companions` (the series of
second metrics) and `mutes`. `keeper` reads the files in the worker, and `in_force` reads in the API what the worker has
stored. `channel_secrets` fills secrets into the settings of channels.
"""

"""YAML files that people write: a strict reader that reports every mistake with its line and column.

It reads rule files, files of rule tests and the topics of `tidegauge mqtt`. Read `problems` and `nodes` first, then
`kinds` (the contract of a kind of value), `leaves` (single values), `lists` and `mappings`. `texts` reads a file.
"""

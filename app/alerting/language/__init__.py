"""The parser of rule files: turns YAML into rules and reports each mistake with its line and column.

Read `files` first (from a folder to a rule set), then `grammar` (all keys) with `leaves` (their values), `reader` (from
the values read to rules), `names` and `checks` (what several values together must meet). `channels` is for the settings
of channels, and `schema` describes the language to editors. `app.yaml_files` reads the YAML.
"""

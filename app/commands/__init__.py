"""The `tidegauge` command: `cli` assembles its subcommands, `console` holds the code that they share.

One module a command: `channels`, `doctor`, `keys` (with `key_snippets`), `migrate`, `rules`, `sensors`, `simulate`, and
`transfer` for export and import. Those that run until they are stopped are in `processes`.
"""

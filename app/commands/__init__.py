"""The `tidegauge` command: `cli` assembles its subcommands, `console` holds the code that they share."""

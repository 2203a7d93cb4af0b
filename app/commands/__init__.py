"""The `tidegauge` command: `cli` lists the commands, `console` holds what they share."""

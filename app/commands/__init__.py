"""The `tidegauge` command: `cli` has the commands, `console` what they share."""

"""From a message to a reading: `topics` are patterns, `payloads` holds values and a time, `readings` joins both."""

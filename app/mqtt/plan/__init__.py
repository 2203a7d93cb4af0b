"""The file that says which topics become which readings: its grammar, and its reading with all mistakes at once."""

"""Actions of people on alerts: they acknowledge, close and silence them. Each is kept with who did it."""

"""What people do about alerts: acknowledge, close and silence them. Each is kept with who did it."""

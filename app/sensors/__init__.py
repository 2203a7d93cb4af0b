"""What is known of sensors: their state, their latest values and what people have noted about them."""

"""What an evaluation writes: episodes with what people were told of them, their values, changes for the live feed."""

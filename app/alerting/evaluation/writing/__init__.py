"""Episodes as an evaluation stores them, with what people were told, their values, and changes for the live feed."""

"""Rules as the program holds them: the model, which rule applies to which series, and the rules in force."""

"""Checked rules: their structs, their matching with series, and the rules in force."""

"""Parsed uploads: their readings as columns, what was refused of them, and the receipt that answers them."""

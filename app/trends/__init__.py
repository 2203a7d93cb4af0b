"""Stored readings and their continuous aggregates, as answers over HTTP."""

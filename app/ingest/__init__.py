"""Ingest: body formats, registration of series, and the flush that stores readings."""

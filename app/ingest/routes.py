"""The routes of ingest: those of all formats."""

from app.ingest.formats import find_handlers

handlers = find_handlers()

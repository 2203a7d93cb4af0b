"""The routes of ingest: those of every format."""

from app.ingest.formats import find_handlers

handlers = find_handlers()

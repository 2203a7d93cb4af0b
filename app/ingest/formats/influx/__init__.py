"""Influx line protocol, so that clients of InfluxDB write here by another address and a key."""

from app.ingest.formats.influx.routes import handlers

__all__ = ["handlers"]

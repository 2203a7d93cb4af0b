"""The live feed: from NOTIFY to WebSocket clients."""

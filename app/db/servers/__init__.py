"""Troubles with database servers: a replica that is away, a pooler, a session that hangs, an incomplete restore."""

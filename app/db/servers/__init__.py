"""What can be the matter with database servers: a replica that is away, a pooler, a session that hangs, a restore."""

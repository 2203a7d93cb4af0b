"""The queues of one client: `waiting` is their base, `readings` is for /ws/live, `legacy` for the old server's feed."""

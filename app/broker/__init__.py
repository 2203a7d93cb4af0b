"""The notification broker: an HTTP API that sends one notification to Slack and Telegram while the client waits."""

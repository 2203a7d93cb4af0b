"""The long-running processes: the API, the worker, and the supervisor that runs both."""

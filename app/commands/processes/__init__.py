"""The long-running processes: the API, the worker, and the supervisor that runs both.

Read `serve` and `work` first, then `server` (an application under uvicorn), `supervisor` and `up`, which runs
everything with the `development_key`. `mqtt` runs the bridge.
"""

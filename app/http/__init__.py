"""HTTP for all routes: limits of connections, deadlines, disconnects, addresses behind proxies, the request log.

`direct.py` calls the routes of uploads without the router.
"""

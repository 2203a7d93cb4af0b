"""HTTP for all routes: limits of connections, deadlines, disconnects, addresses behind proxies, the request log.

Of a connection: `connections` (how many there may be) and `protocol` (the head of a request: its size and its
deadline). Of a request: `request_log` (its id and duration), `proxies` (the client's address), `deadlines` (of its body
and of its answer), `disconnects` (clients that leave), `direct` (uploads, which are called without the router) and
`parameters` (misspelt ones). `requests` has the type of a request.
"""

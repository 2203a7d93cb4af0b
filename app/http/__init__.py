"""HTTP as such, for all routes: connections and what they may send, deadlines, disconnects, proxies, request ids."""

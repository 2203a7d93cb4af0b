"""The bridge from an MQTT broker to the API: a client of both, used by `tidegauge mqtt`.

Read in this order: `bridge` (takes messages, uploads them, acknowledges them), `broker` (the connection to the MQTT
broker) and `inbox` (messages on their way from its thread), `readings` (from a message to a reading) with `payloads`
and `topics`, `stamps` (times of receipt, kept on disk), `uploads`. `model` has the routes and messages; `files` reads
the file of routes by its `grammar`. `routes` are the probes of the bridge over HTTP, `counts` its metrics.
"""

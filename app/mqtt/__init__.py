"""The bridge from an MQTT broker to the API: a client of both, used by `tidegauge mqtt`."""

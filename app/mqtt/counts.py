"""The metrics of the bridge for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest


class Counts:
    """The metrics of one bridge, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.messages = Counter(
            "tidegauge_mqtt_messages", "Messages taken from the broker, by outcome", ["outcome"], registry=self.registry
        )
        self.connected = Gauge("tidegauge_mqtt_connected", "1 if the broker is connected", registry=self.registry)
        self.waiting = Gauge("tidegauge_mqtt_waiting", "Messages that wait to be uploaded", registry=self.registry)

    def render(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        return generate_latest(self.registry)

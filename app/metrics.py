"""The metrics that /metrics shows, with names and base units by the conventions of Prometheus.

Processes of one supervisor share a folder, named by PROMETHEUS_MULTIPROC_DIR, where prometheus_client keeps all values.
Each of them then shows the metrics of all of them together: counters summed, gauges as each one says.
"""

from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.values import MutexValue, ValueClass

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SHARED_FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
#: Ways to combine the values of several processes.
_Join = Literal["livesum", "livemax", "livemin"]


class Metrics:
    """The metrics of one process, in a registry of their own, so that two applications in a process do not mix.

    `role` says which process it is; metrics that only the other kind of process sets are left out.
    """

    def __init__(self, role: Literal["api", "worker"] | None = None) -> None:
        self.registry = CollectorRegistry()
        not_shown = CollectorRegistry()
        of_api = not_shown if role == "worker" else self.registry
        of_worker = not_shown if role == "api" else self.registry
        self._add_process_metrics(self.registry)
        self._add_backlog_metrics(self.registry)
        self._add_ingest_metrics(of_api)
        self._add_live_metrics(of_api)
        self._add_alerting_metrics(of_worker)
        self._add_gateway_metrics(of_worker)

    def render(self) -> bytes:
        """Return every metric in Prometheus' text format, of all processes that share a folder."""
        if ValueClass is MutexValue:  # the variable was not set when prometheus_client was imported
            return generate_latest(self.registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)

    def _add_process_metrics(self, registry: CollectorRegistry) -> None:
        """Add what every process has: its requests, its database, its jobs."""
        self.request_seconds = Histogram(
            "tidegauge_request_seconds",
            "Time from a request's first byte to its answer",
            ["method", "path", "status"],
            registry=registry,
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
        )
        self.pool_wait_seconds = Histogram(
            "tidegauge_db_pool_wait_seconds",
            "Time that work waited for a connection of a pool",
            registry=registry,
            buckets=(0.001, 0.01, 0.1, 0.5, 1, 5),
        )
        self.pool_connections = _gauge(registry, "tidegauge_db_pool_connections", "Database connections", "state")
        self.database_bytes = _gauge(
            registry, "tidegauge_database_size_bytes", "Size of the database on disk", join="livemax"
        )
        self.ready = _gauge(registry, "tidegauge_ready", "1 if every process can do its work, else 0", join="livemin")
        self.warnings = _gauge(
            registry, "tidegauge_warning", "1 if a warning of the kind holds", "kind", join="livemax"
        )
        self.clock_skew_seconds = _gauge(
            registry,
            "tidegauge_clock_skew_seconds",
            "Time that the machine's clock is ahead of the database's",
            join="livemax",
        )
        self.job_runs = _counter(registry, "tidegauge_job_runs", "Background jobs, by outcome", "job", "outcome")

    def _add_backlog_metrics(self, registry: CollectorRegistry) -> None:
        """Add how far the evaluation of rules is behind, which every process reads from the database."""
        self.last_evaluation_seconds = _gauge(
            registry,
            "tidegauge_last_evaluation_timestamp_seconds",
            "When a worker last evaluated rules, to within seconds, since 1970 by the database's clock",
            join="livemax",
        )
        self.dirty_rows = _gauge(registry, "tidegauge_dirty_rows", "Flushes that wait to be evaluated", join="livemax")
        self.dirty_oldest_seconds = _gauge(
            registry, "tidegauge_dirty_oldest_seconds", "Time that the oldest of them has waited", join="livemax"
        )

    def _add_ingest_metrics(self, registry: CollectorRegistry) -> None:
        """Add what processes of the API count of uploads."""
        self.readings_accepted = _counter(
            registry, "tidegauge_values_accepted", "Values stored, each for the first time"
        )
        self.readings_duplicate = _counter(registry, "tidegauge_values_duplicate", "Values that were stored already")
        self.readings_conflicting = _counter(
            registry, "tidegauge_values_conflicting", "Of the values that were stored already, those with another value"
        )
        self.readings_rejected = _counter(registry, "tidegauge_values_rejected", "Values refused, by reason", "code")
        self.fields_ignored = _counter(
            registry,
            "tidegauge_fields_ignored",
            "Fields of uploads that no format has; the log names them once for each gateway",
        )
        self.flush_seconds = Histogram(
            "tidegauge_flush_seconds",
            "Time of one flush, from taking uploads to commit",
            registry=registry,
        )
        self.flush_values = Histogram(
            "tidegauge_flush_values",
            "Values in one flush",
            registry=registry,
            buckets=(1, 10, 100, 1_000, 10_000, 100_000),
        )
        self.flush_retries = _counter(
            registry, "tidegauge_flush_retries", "Flushes tried again, by SQLSTATE", "sqlstate"
        )
        self.queue_values = _gauge(registry, "tidegauge_ingest_queue_values", "Values that wait for a flush")
        self.flush_age_seconds = _gauge(
            registry,
            "tidegauge_flush_age_seconds",
            "Time that the oldest flush has been under way, or 0",
            join="livemax",
        )
        self.auth_failures = _counter(
            registry,
            "tidegauge_auth_failures",
            "Requests and WebSockets refused for their API key, by reason",
            "reason",
        )

    def _add_live_metrics(self, registry: CollectorRegistry) -> None:
        """Add what processes of the API count of the live feed."""
        self.websocket_clients = _gauge(registry, "tidegauge_websocket_clients", "Connected WebSocket clients", "path")
        self.frames_sent = _counter(registry, "tidegauge_frames_sent", "Frames handed to WebSocket clients")
        self.frames_conflated = _counter(
            registry, "tidegauge_frames_conflated", "Values replaced by newer ones before a slow client took them"
        )
        self.clients_dropped = _counter(
            registry, "tidegauge_clients_dropped", "Clients closed because they fell too far behind"
        )
        self.feed_lag_seconds = _gauge(
            registry, "tidegauge_feed_lag_seconds", "Time from commit to fan-out of the newest feed row", join="livemax"
        )
        self.feed_seq = _gauge(
            registry, "tidegauge_feed_seq", "Sequence number of the newest feed row fanned out", join="livemax"
        )
        self.listener_reconnects = _counter(
            registry, "tidegauge_listener_reconnects", "Times the listening connection was opened again"
        )

    def _add_alerting_metrics(self, registry: CollectorRegistry) -> None:
        """Add what workers count of evaluations and messages."""
        self.lease_held = _gauge(
            registry, "tidegauge_lease_held", "1 if this worker holds the lease and works, 0 while it stands by"
        )
        self.lease_age_seconds = _gauge(
            registry,
            "tidegauge_lease_age_seconds",
            "Time since this worker took the lease; 0 while it stands by",
            join="livemax",
        )
        self.evaluation_seconds = Histogram(
            "tidegauge_evaluation_seconds", "Time of one evaluation of the rules, to commit", registry=registry
        )
        self.rule_problems = _gauge(
            registry,
            "tidegauge_rule_problems",
            "Errors in the current rule files; the rules accepted last stay in force meanwhile",
        )
        self.deliveries = _counter(
            registry, "tidegauge_deliveries", "Attempts to deliver an alert message, by outcome", "type", "outcome"
        )
        self.notifications_waiting = _gauge(
            registry, "tidegauge_notifications_waiting", "Alert messages not yet claimed"
        )
        self.notifications_oldest_due_seconds = _gauge(
            registry,
            "tidegauge_notifications_oldest_due_seconds",
            "Time since the oldest alert message not yet sent became due",
        )
        self.dead_letters = _gauge(
            registry, "tidegauge_dead_letters", "Alert messages given up and not sent again since"
        )
        self.channels_broken = _gauge(
            registry, "tidegauge_channels_broken", "Channels through which nothing is sent until they are repaired"
        )

    def _add_gateway_metrics(self, registry: CollectorRegistry) -> None:
        """Add what workers read of each gateway from the database."""
        self.gateway_last_upload_seconds = _gauge(
            registry,
            "tidegauge_gateway_last_upload_timestamp_seconds",
            "When each gateway last uploaded, in seconds since 1970",
            "gateway",
            join="livemax",
        )
        self.gateway_sensors = _gauge(
            registry,
            "tidegauge_gateway_sensors",
            "Sensors in use that report through each gateway",
            "gateway",
            join="livemax",
        )
        self.gateway_skew_seconds = _gauge(
            registry,
            "tidegauge_gateway_skew_seconds",
            "Time of receipt minus the newest time of each gateway's last upload; negative: its clock is ahead",
            "gateway",
            join="livemax",
        )
        self.gateway_lateness_seconds = _gauge(
            registry,
            "tidegauge_gateway_lateness_seconds",
            "Time of receipt minus the oldest time of each gateway's last upload",
            "gateway",
            join="livemax",
        )
        self.gateway_duplicates = _gauge(
            registry,
            "tidegauge_gateway_duplicates",
            "Values of each gateway that were stored already",
            "gateway",
            join="livemax",
        )
        self.gateway_conflicts = _gauge(
            registry, "tidegauge_gateway_conflicts", "Of these, those with another value", "gateway", join="livemax"
        )
        self.gateway_rejected = _gauge(
            registry,
            "tidegauge_gateway_rejected",
            "Values of each gateway refused, by reason",
            "gateway",
            "code",
            join="livemax",
        )


def _counter(registry: CollectorRegistry, name: str, text: str, *labels: str) -> Counter:
    return Counter(name, text, labels, registry=registry)


def _gauge(registry: CollectorRegistry, name: str, text: str, *labels: str, join: _Join = "livesum") -> Gauge:
    return Gauge(name, text, labels, registry=registry, multiprocess_mode=join)

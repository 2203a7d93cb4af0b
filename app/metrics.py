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
        self.request_seconds = Histogram(
            "tidegauge_request_seconds",
            "Time from a request's first byte to its answer",
            ["method", "path", "status"],
            registry=self.registry,
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
        )
        self.readings_accepted = self._counter("tidegauge_values_accepted", "Values stored, each for the first time")
        self.readings_duplicate = self._counter("tidegauge_values_duplicate", "Values that were stored already")
        self.readings_conflicting = self._counter(
            "tidegauge_values_conflicting", "Of the values that were stored already, those with another value"
        )
        self.readings_rejected = self._counter("tidegauge_values_rejected", "Values refused, by reason", "code")
        self.fields_ignored = self._counter(
            "tidegauge_fields_ignored", "Fields of uploads that no format has; the log names them once for each gateway"
        )
        self.flush_seconds = Histogram(
            "tidegauge_flush_seconds",
            "Time of one flush, from taking uploads to commit",
            registry=self.registry,
        )
        self.flush_values = Histogram(
            "tidegauge_flush_values",
            "Values in one flush",
            registry=self.registry,
            buckets=(1, 10, 100, 1_000, 10_000, 100_000),
        )
        self.flush_retries = self._counter("tidegauge_flush_retries", "Flushes tried again, by SQLSTATE", "sqlstate")
        self.queue_values = self._gauge("tidegauge_ingest_queue_values", "Values that wait for a flush")
        self.websocket_clients = self._gauge("tidegauge_websocket_clients", "Connected WebSocket clients", "path")
        self.frames_sent = self._counter("tidegauge_frames_sent", "Frames handed to WebSocket clients")
        self.frames_conflated = self._counter(
            "tidegauge_frames_conflated", "Values replaced by newer ones before a slow client took them"
        )
        self.clients_dropped = self._counter(
            "tidegauge_clients_dropped", "Clients closed because they fell too far behind"
        )
        self.feed_lag_seconds = self._gauge(
            "tidegauge_feed_lag_seconds", "Time from commit to fan-out of the newest feed row", join="livemax"
        )
        self.feed_seq = self._gauge(
            "tidegauge_feed_seq", "Sequence number of the newest feed row fanned out", join="livemax"
        )
        self.listener_reconnects = self._counter(
            "tidegauge_listener_reconnects", "Times the listening connection was opened again"
        )
        self.pool_wait_seconds = Histogram(
            "tidegauge_db_pool_wait_seconds",
            "Time that work waited for a connection of a pool",
            registry=self.registry,
            buckets=(0.001, 0.01, 0.1, 0.5, 1, 5),
        )
        self.pool_connections = self._gauge("tidegauge_db_pool_connections", "Database connections", "state")
        self.database_bytes = self._gauge(
            "tidegauge_database_size_bytes", "Size of the database on disk", join="livemax"
        )
        self.ready = self._gauge("tidegauge_ready", "1 if every process can do its work, else 0", join="livemin")
        self.warnings = self._gauge("tidegauge_warning", "1 if a warning of the kind holds", "kind", join="livemax")
        self.clock_skew_seconds = self._gauge(
            "tidegauge_clock_skew_seconds", "Time that the machine's clock is ahead of the database's", join="livemax"
        )
        self.flush_age_seconds = self._gauge(
            "tidegauge_flush_age_seconds",
            "Time that the oldest flush has been under way, or 0",
            join="livemax",
        )
        self.auth_failures = self._counter(
            "tidegauge_auth_failures", "Requests and WebSockets refused for their API key, by reason", "reason"
        )
        self.lease_held = self._gauge("tidegauge_lease_held", "1 if this worker is the one that works")
        self.lease_age_seconds = self._gauge(
            "tidegauge_lease_age_seconds", "Time since this worker took the lease; 0 while it stands by", join="livemax"
        )
        self.last_evaluation_seconds = self._gauge(
            "tidegauge_last_evaluation_timestamp_seconds",
            "When a worker last evaluated rules, to within seconds, since 1970 by the database's clock",
            join="livemax",
        )
        self.dirty_rows = self._gauge("tidegauge_dirty_rows", "Flushes that wait to be evaluated", join="livemax")
        self.dirty_oldest_seconds = self._gauge(
            "tidegauge_dirty_oldest_seconds", "Time that the oldest of them has waited", join="livemax"
        )
        self.evaluation_seconds = Histogram(
            "tidegauge_evaluation_seconds", "Time of one evaluation of the rules, to commit", registry=self.registry
        )
        self.rule_problems = self._gauge(
            "tidegauge_rule_problems",
            "Errors in the current rule files; the rules accepted last stay in force meanwhile",
        )
        self.job_runs = self._counter("tidegauge_job_runs", "Background jobs, by outcome", "job", "outcome")
        self.deliveries = self._counter(
            "tidegauge_deliveries", "Attempts to deliver an alert message, by outcome", "type", "outcome"
        )
        self.notifications_waiting = self._gauge("tidegauge_notifications_waiting", "Alert messages not yet claimed")
        self.notifications_oldest_due_seconds = self._gauge(
            "tidegauge_notifications_oldest_due_seconds", "Time since the oldest alert message not yet sent became due"
        )
        self.dead_letters = self._gauge("tidegauge_dead_letters", "Alert messages given up and not sent again since")
        self.channels_broken = self._gauge(
            "tidegauge_channels_broken", "Channels through which nothing is sent until they are repaired"
        )

        self.gateway_last_upload_seconds = self._gauge(
            "tidegauge_gateway_last_upload_timestamp_seconds",
            "When each gateway last uploaded, in seconds since 1970",
            "gateway",
            join="livemax",
        )
        self.gateway_sensors = self._gauge(
            "tidegauge_gateway_sensors", "Sensors in use that report through each gateway", "gateway", join="livemax"
        )
        self.gateway_skew_seconds = self._gauge(
            "tidegauge_gateway_skew_seconds",
            "Time of receipt minus the newest time of each gateway's last upload; negative: its clock is ahead",
            "gateway",
            join="livemax",
        )
        self.gateway_lateness_seconds = self._gauge(
            "tidegauge_gateway_lateness_seconds",
            "Time of receipt minus the oldest time of each gateway's last upload",
            "gateway",
            join="livemax",
        )
        self.gateway_duplicates = self._gauge(
            "tidegauge_gateway_duplicates", "Values of each gateway that were stored already", "gateway", join="livemax"
        )
        self.gateway_conflicts = self._gauge(
            "tidegauge_gateway_conflicts", "Of these, those with another value", "gateway", join="livemax"
        )
        self.gateway_rejected = self._gauge(
            "tidegauge_gateway_rejected", "Values of each gateway refused, by reason", "gateway", "code", join="livemax"
        )

        of_gateways = (
            self.gateway_last_upload_seconds,
            self.gateway_sensors,
            self.gateway_skew_seconds,
            self.gateway_lateness_seconds,
            self.gateway_duplicates,
            self.gateway_conflicts,
            self.gateway_rejected,
        )
        of_worker = (
            *of_gateways,
            self.evaluation_seconds,
            self.rule_problems,
            self.deliveries,
            self.notifications_waiting,
            self.notifications_oldest_due_seconds,
            self.dead_letters,
            self.channels_broken,
            self.lease_held,
            self.lease_age_seconds,
        )
        of_api = (
            self.readings_accepted,
            self.readings_duplicate,
            self.readings_conflicting,
            self.readings_rejected,
            self.fields_ignored,
            self.flush_seconds,
            self.flush_values,
            self.flush_retries,
            self.queue_values,
            self.websocket_clients,
            self.frames_sent,
            self.frames_conflated,
            self.clients_dropped,
            self.feed_lag_seconds,
            self.feed_seq,
            self.listener_reconnects,
            self.flush_age_seconds,
            self.auth_failures,
        )
        for metric in {"api": of_worker, "worker": of_api}.get(role or "", ()):
            self.registry.unregister(metric)

    def render(self) -> bytes:
        """Return every metric in Prometheus' text format, of all processes that share a folder."""
        if ValueClass is MutexValue:  # the variable was not set when prometheus_client was imported
            return generate_latest(self.registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str, join: _Join = "livesum") -> Gauge:
        return Gauge(name, text, labels, registry=self.registry, multiprocess_mode=join)

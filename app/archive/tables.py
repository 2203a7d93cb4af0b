"""The tables that an archive holds, and the tables that it leaves out."""

from collections.abc import Mapping

import msgspec

from app.db.aggregates import LEVELS


class Table(msgspec.Struct, frozen=True):
    """A table whose rows an archive holds."""

    name: str
    #: SQL condition for the rows that every new database has. They are replaced by those of an archive.
    own_rows: str = "FALSE"


#: In the order in which they are loaded: a table comes after those that it refers to.
TABLES = (
    Table("sensor"),
    Table("sensor_alias"),
    Table("series"),
    Table("reading"),
    Table("series_state"),
    # Readings that no rule was evaluated for yet, and sensors that have changed since.
    Table("dirty"),
    Table("sensor_change"),
    Table("legacy_reading"),
    Table("api_key", own_rows="label = 'development'"),
    Table("gateway"),
    Table("gateway_refusal"),
    Table("idempotency"),
    Table("rule_set", own_rows="TRUE"),
    Table("alert_rule", own_rows="TRUE"),
    Table("alert_episode"),
    Table("alert_state"),
    Table("alert_told"),
    Table("silence"),
    Table("alert_action"),
    Table("notification"),
    Table("notification_item"),
    Table("notification_attempt"),
    Table("channel_state", own_rows="TRUE"),
    Table("channel_move", own_rows="TRUE"),
    Table("broker_notification"),
)

#: The aggregates. An archive holds their days whose raw readings are gone; an import computes the other days.
AGGREGATES = tuple(level.relation for level in LEVELS)

#: Tables that an archive leaves out, with the reason.
LEFT_OUT: Mapping[str, str] = {
    "schema_migration": "each database has its own migrations",
    "archive_import": "says which archives were imported into this database",
    "feed": "a cursor is valid for one database only: followers get a resync",
    "feed_epoch": "tells one database from another",
    "late_day": "the aggregates are computed anew",
    "aggregates_built": "of the aggregates",
    "aggregate_watermark": "of the aggregates of the Apache-2 edition",
    "rolled_1m": "the aggregates of the Apache-2 edition",
    "rolled_1h": "the aggregates of the Apache-2 edition",
    "rolled_1d": "the aggregates of the Apache-2 edition",
    "ingest_state": "about the processes of this database",
    "evaluation_clock": "about the clock of this database's server",
    "lease": "about the processes of this database",
    "migration_lock": "empty: for locks",
    "feed_lock": "empty: for locks",
    "evaluation_lock": "empty: for locks",
    "connection_lock": "empty: for locks",
    "worker_status": "about the processes of this database",
    "rule_problem": "about the rule files of this database's worker",
    "channel_test": "requests that wait for an answer for seconds",
    "sensor_version": "counts changes for the processes of this database",
    "connection_count": "about the processes of this database",
    "foreign_sensor": "noted anew within minutes",
    "notification_rate": "matters for a minute",
    "upload_rate": "matters for a minute",
    "paced_destination": "matters for a minute",
}

"""Tidegauge: sensor readings in; trends, alerts and a live feed out.

Read the modules of this folder in this order:

- `main` builds the HTTP application and `services` opens what runs beside its request handlers. Together they wire
  all domains. `settings` reads the environment, `tasks` and `jobs` run the background work.
- Then one domain, beginning with its `routes`; the life of a reading leads through `ingest`, `live` and `trends`.
- Shared words, which import no framework: `model` (types), `errors`, `clock`, `durations`, `globs` (name patterns),
  `hints` (parts of error messages), `names` (what may be stored as a name, tag or unit), `paging`, `csv_text`.
- HTTP: `parameters` (shared query parameters), `problems` (error answers), `request_log`.
- Operation: `log` and `metrics`. `__main__` makes `python -m app` the `tidegauge` command.

The folders, in the order in which they may import each other, from top to bottom:

- `commands`: the `tidegauge` command.
- `health`: whether a process can work now, and what else needs attention.
- `ingest`: uploads of readings, from the request body to the commit.
- `sensors`: sensors and gateways with their state, over HTTP.
- `trends`: raw readings and trends over HTTP.
- `live`: the live feed of readings and alerts to WebSocket clients.
- `alerting`: rules, their evaluation into episodes, and the messages about episodes.
- `broker`: the notification broker, an HTTP API that sends single notifications.
- `web`: the built-in page.
- `simulate`: simulated gateways, which are clients of the API.
- `archive`: all data of a database as one file, for another database.
- `notify`: delivery of messages to Slack, Telegram and webhooks: outbox, pacing, retry, channels.
- `auth`: API keys, their scopes and limits.
- `db`: connections, named queries, migrations, aggregates, the lease, the embedded server.

The domains from `ingest` to `archive` do not import each other; data pass between them through the database.
"""

__version__ = "0.1.0"

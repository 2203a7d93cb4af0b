"""Tidegauge: sensor readings in; trends, alerts and a live feed out.

Read the modules of this folder in this order:

- Wiring: `main` builds the applications of the API and of the worker. `services` opens everything that the API runs
  beside its request handlers, `worker` everything that the worker runs. `start` has the steps of a start that both
  share. `settings` reads the environment; `tasks` and `jobs` run the background work.
- Then one domain, beginning with its `routes`; the life of a reading leads through `ingest`, `live` and `trends`.
- Shared words, which import no framework: `model` (types), `errors`, `clock`, `durations`, `globs` (name patterns),
  `hints` (parts of error messages), `names` (rules for names, tags and units), `paging`, `csv_text`, `dsn` (addresses
  of PostgreSQL), `rule_texts` (message templates of rules), `summaries` (new readings, from a flush to an evaluation),
  `local_times` (times for people) and `time_texts` (times in uploads).
- HTTP: `parameters` (shared query parameters), `problems` (error answers) and `uplink` (a client of the API, for the
  bridge and the simulation).
- Operation: `log` and `metrics`. `__main__` makes `python -m app` the `tidegauge` command.

The folders, in the order in which they may import each other, from top to bottom:

- `commands`: the `tidegauge` command.
- `health`: probes, warnings and metrics over HTTP.
- `ingest`: uploads of readings, from the request body to the commit.
- `sensors`: sensors and gateways with their state, over HTTP.
- `trends`: raw readings and trends over HTTP.
- `live`: the live feed of readings and alerts to WebSocket clients.
- `alerting`: rules, their evaluation into episodes, and the messages about episodes.
- `broker`: the notification broker, an HTTP API that sends single notifications.
- `web`: the built-in page.
- `simulate`: simulated gateways, which are clients of the API.
- `mqtt`: the bridge from an MQTT broker, a client of the API.
- `archive`: all data of a database as one file, for another database.
- `notify`: delivery of messages to Slack, Telegram and webhooks: outbox, pacing, retry, channels.
- `auth`: API keys, their scopes and limits.
- `db`: connections, named queries, migrations, aggregates, the lease, the embedded server.
- `yaml_files`: a strict reader of YAML files, for rules and for the bridge.
- `http`: connections, deadlines, proxies and the request log, for the routes of all domains.

The domains from `ingest` to `archive` do not import each other; data pass between them through the database.
"""

__version__ = "0.1.0"

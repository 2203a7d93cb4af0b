"""The data source that panels, variables and annotations name."""

#: Of the provisioned data source; the default of the variable `datasource`.
UID = "tidegauge"
TYPE = "grafana-postgresql-datasource"
#: Through the variable, so that a dashboard works in any Grafana that has a PostgreSQL data source.
DATASOURCE = {"type": TYPE, "uid": "${datasource}"}

"""Generator of the Grafana dashboards: one module a dashboard, written as JSON by `make dashboards`."""

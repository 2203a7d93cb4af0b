"""Alerts by threshold rules on stored readings, evaluated in event time.

Read `service` first: it has one round of evaluation, and calls the others. Then `rules` (rules in force), `conditions`
and `episodes` (when an alert begins and ends), `evaluation` (stores episodes) and `telling` (messages about them).
`language` reads rule files, and `trials` tries rules without sending anything. Over HTTP, `routes` with `listing` shows
alerts and rules, and `actions` has what people do about alerts.
"""

"""Variables of dashboards."""

from typing import Any

from grafana.generate.sources import DATASOURCE, TYPE, UID

Json = dict[str, Any]
_ALL = {"text": ["All"], "value": ["$__all"]}


def datasource() -> Json:
    """Return the variable that chooses the data source, ours by default."""
    return {
        "type": "datasource",
        "name": "datasource",
        "label": "Data source",
        "description": "PostgreSQL data source that reads Tidegauge's database as the role tidegauge_reader.",
        "query": TYPE,
        "refresh": 1,
        "regex": "",
        "multi": False,
        "includeAll": False,
        "hide": 0,
        "skipUrlSync": False,
        "options": [],
        "current": {"text": "Tidegauge", "value": UID},
    }


def one_of(name: str, label: str, description: str, sql: str, default: str = "") -> Json:
    """Return a variable of one value; without a default Grafana takes the first row."""
    current = {"text": default, "value": default} if default else {}
    return _query(name, label, description, sql) | {"multi": False, "includeAll": False, "current": current}


def some_of(name: str, label: str, description: str, sql: str, column: str) -> Json:
    """Return a variable of several values.

    All is replaced by the column itself: `sensor IN (sensor)` costs nothing, a list of 5,000 names would.
    """
    return _query(name, label, description, sql) | {
        "multi": True,
        "includeAll": True,
        "allValue": column,
        "current": _ALL,
    }


def text(name: str, label: str, description: str, default: str) -> Json:
    """Return a variable that people type."""
    return {
        "type": "textbox",
        "name": name,
        "label": label,
        "description": description,
        "query": default,
        "hide": 0,
        "skipUrlSync": False,
        "options": [{"text": default, "value": default, "selected": True}],
        "current": {"text": default, "value": default},
    }


def _query(name: str, label: str, description: str, sql: str) -> Json:
    return {
        "type": "query",
        "name": name,
        "label": label,
        "description": description,
        "datasource": DATASOURCE,
        "query": sql,
        "definition": sql,
        "refresh": 1,
        "sort": 0,
        "regex": "",
        "hide": 0,
        "skipUrlSync": False,
        "options": [],
    }

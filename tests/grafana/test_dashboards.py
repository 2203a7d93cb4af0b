"""Errors in dashboards that Grafana would refuse or show badly, found without Grafana."""

import re
from itertools import combinations
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.grafana.dashboards import PATHS, ROOT, Json, load, panels, queries, variables

PROVISIONING = ROOT / "grafana" / "provisioning"
every_dashboard = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def test_dashboards_have_distinct_uids_and_titles_when_loaded_together() -> None:
    dashboards = [load(path) for path in PATHS]
    assert "tidegauge-overview" in {dashboard["uid"] for dashboard in dashboards}
    for key in ("uid", "title"):
        assert len({dashboard[key] for dashboard in dashboards}) == len(dashboards)


@every_dashboard
def test_dashboard_can_be_provisioned_when_loaded(path: Path) -> None:
    dashboard = load(path)
    assert "id" not in dashboard
    assert re.fullmatch(r"tidegauge-[a-z-]{1,30}", dashboard["uid"])
    assert dashboard["title"]
    assert dashboard["description"]
    assert dashboard["tags"] == ["tidegauge"]


@every_dashboard
def test_panels_have_title_description_and_unit_when_loaded(path: Path) -> None:
    dashboard = load(path)
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in panels(dashboard):
        assert panel["title"], panel
        assert len(panel["description"]) > 20, panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert _has_unit(panel), panel["title"]


@every_dashboard
def test_panels_do_not_overlap_when_laid_out(path: Path) -> None:
    places = [(panel["title"], panel["gridPos"]) for panel in load(path)["panels"]]
    for title, place in places:
        assert place["x"] >= 0, title
        assert place["x"] + place["w"] <= 24, title
    for (one, a), (other, b) in combinations(places, 2):
        apart = (
            a["x"] + a["w"] <= b["x"]
            or b["x"] + b["w"] <= a["x"]
            or a["y"] + a["h"] <= b["y"]
            or b["y"] + b["h"] <= a["y"]
        )
        assert apart, f"{one} and {other}"


@every_dashboard
def test_every_data_source_is_ours_when_panels_and_variables_name_one(path: Path) -> None:
    dashboard = load(path)
    ours = {"type": "grafana-postgresql-datasource", "uid": "tidegauge"}
    for panel in panels(dashboard):
        assert panel["datasource"] == ours, panel["title"]
        assert [target["datasource"] for target in panel["targets"]] == [ours] * len(panel["targets"]), panel["title"]
    for variable in variables(dashboard).values():
        assert variable["type"] == "custom" or variable["datasource"] == ours, variable["name"]


@every_dashboard
def test_every_read_of_readings_is_bounded_when_a_query_runs(path: Path) -> None:
    for query in queries(load(path)):
        reads = re.split(r"\bFROM (?=reading(?:_1[mhd])?\b)", query.sql)[1:]
        for read in reads:
            assert re.match(r"reading\w*\s+WHERE [^()]*\$__timeFilter\((time|bucket)\)", read), query
        if reads:
            assert "series_id = ANY (ARRAY(SELECT id FROM chosen))" in query.sql, query


@every_dashboard
@pytest.mark.parametrize("interval_ms", [60_000, 3_599_999, 3_600_000, 86_399_999, 86_400_000])
def test_exactly_one_relation_is_read_when_the_interval_is_at_an_edge(path: Path, interval_ms: int) -> None:
    for query in queries(load(path)):
        guards = re.findall(r"WHERE ([^()]*) AND \$__timeFilter", query.sql)
        active = [guard for guard in guards if _holds(guard, interval_ms)]
        assert len(active) == (1 if guards else 0), query


@every_dashboard
def test_queries_can_be_expanded_by_the_macro_engine(path: Path) -> None:
    for query in queries(load(path)):
        assert "--" not in query.sql, f"{query}: a macro in a comment breaks the query"
        assert not re.search(r"GROUP BY[^\n]*\$__", query.sql), query
        if query.format == "time_series":
            assert re.search(r"ORDER BY (1|st\.last_time DESC\n LIMIT 1)", query.sql), query


@every_dashboard
def test_links_and_repeats_have_an_existing_target_when_followed(path: Path) -> None:
    dashboard = load(path)
    text = path.read_text(encoding="utf-8")
    uids = {load(other)["uid"] for other in PATHS}
    assert set(re.findall(r'"url": "/d/([\w-]+)/', text)) <= uids
    repeats = {row["repeat"] for row in dashboard["panels"] if "repeat" in row}
    assert repeats <= variables(dashboard).keys()


def test_overview_has_the_panels_of_the_replaced_server_when_opened() -> None:
    titles = {panel["title"] for panel in panels(load(ROOT / "grafana" / "dashboards" / "overview.json"))}
    assert titles >= {
        "Latest temperature",
        "Latest humidity",
        "Sensors",
        "All metrics over time",
        "Last readings",
        "$metric: mean per sensor",
    }


def test_sensor_is_stale_after_the_same_time_when_shown_by_grafana_and_by_the_api() -> None:
    rule = re.compile(r"coalesce\(3 \* \w+\.expected_interval, INTERVAL '15 minutes'\)")
    api = (ROOT / "app" / "trends" / "queries.sql").read_text(encoding="utf-8")
    overview = load(ROOT / "grafana" / "dashboards" / "overview.json")
    stale = [query.sql for query in queries(overview) if "expected_interval" in query.sql]
    assert len(stale) == 4
    assert all(rule.search(sql) for sql in (api, *stale))


def test_data_source_is_read_only_and_complete_when_provisioned() -> None:
    file = YAML(typ="safe").load(PROVISIONING / "datasources" / "tidegauge.yml")
    (source,) = file["datasources"]
    assert (source["uid"], source["type"]) == ("tidegauge", "grafana-postgresql-datasource")
    assert source["user"] == "tidegauge_reader"
    assert source["editable"] is False
    assert "database" not in source
    assert source["jsonData"]["database"] == "$POSTGRES_DB"
    assert source["jsonData"]["timescaledb"] is True
    assert source["jsonData"]["timeInterval"] == "1s"
    assert source["secureJsonData"] == {"password": "$GRAFANA_DB_PASSWORD"}


def test_dashboards_are_found_where_compose_mounts_them_when_provisioned() -> None:
    provider = YAML(typ="safe").load(PROVISIONING / "dashboards" / "tidegauge.yml")["providers"][0]
    compose = YAML(typ="safe").load(ROOT / "docker-compose.yml")
    assert provider["options"]["path"] == "/etc/grafana/dashboards"
    assert "./grafana/dashboards:/etc/grafana/dashboards:ro" in compose["services"]["grafana"]["volumes"]


def _holds(guard: str, interval_ms: int) -> bool:
    """Evaluate `$__interval_ms >= 10000 AND $__interval_ms < 3600000`."""
    bounds = re.findall(r"\$__interval_ms (>=|<) (\d+)", guard)
    return all(interval_ms >= int(edge) if sign == ">=" else interval_ms < int(edge) for sign, edge in bounds)


def _has_unit(panel: Json) -> bool:
    """Return whether a panel has a unit: by default, or from the series by a transformation."""
    from_series = [
        mapping["handlerKey"]
        for transformation in panel.get("transformations", [])
        if transformation["id"] == "configFromData"
        for mapping in transformation["options"]["mappings"]
    ]
    return bool(panel["fieldConfig"]["defaults"].get("unit")) or "unit" in from_series

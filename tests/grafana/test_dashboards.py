"""Faults of dashboards that Grafana would refuse or show badly, found without Grafana."""

import re
from itertools import combinations
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from grafana.generate.__main__ import DASHBOARDS, render
from tests.grafana.dashboards import PATHS, ROOT, Json, load, panels, queries, variables

PROVISIONING = ROOT / "grafana" / "provisioning"
OURS = {"type": "grafana-postgresql-datasource", "uid": "${datasource}"}
every_dashboard = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def test_dashboards_are_as_generated_when_committed() -> None:
    assert {path.stem for path in PATHS} == DASHBOARDS.keys()
    for path in PATHS:
        assert path.read_text(encoding="utf-8") == render(DASHBOARDS[path.stem]()), "run `make dashboards`"


def test_dashboards_have_uids_and_titles_of_their_own_when_loaded_together() -> None:
    dashboards = [load(path) for path in PATHS]
    for key in ("uid", "title"):
        assert len({dashboard[key] for dashboard in dashboards}) == len(dashboards)


@every_dashboard
def test_dashboard_is_fit_for_provisioning_when_loaded(path: Path) -> None:
    dashboard = load(path)
    assert "id" not in dashboard
    assert re.fullmatch(r"tidegauge-[a-z-]{1,30}", dashboard["uid"])
    assert dashboard["title"].startswith("Tidegauge ")
    assert dashboard["description"].endswith(".")
    assert dashboard["tags"] == ["tidegauge"]


@every_dashboard
def test_panels_say_what_they_show_when_read_by_a_stranger(path: Path) -> None:
    dashboard = load(path)
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    titles = [panel["title"] for panel in panels(dashboard)]
    assert len(set(titles)) == len(titles)
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
def test_every_data_source_is_the_chosen_one_when_panels_variables_and_annotations_name_one(path: Path) -> None:
    dashboard = load(path)
    for panel in panels(dashboard):
        assert panel["datasource"] == OURS, panel["title"]
        assert [target["datasource"] for target in panel["targets"]] == [OURS] * len(panel["targets"]), panel["title"]
    for annotation in dashboard["annotations"]["list"]:
        assert annotation["datasource"] == OURS
    chosen = variables(dashboard)
    assert next(iter(chosen)) == "datasource"
    assert chosen["datasource"]["query"] == OURS["type"]
    assert chosen["datasource"]["current"]["value"] == "tidegauge"
    for variable in chosen.values():
        assert variable["type"] in ("datasource", "textbox") or variable["datasource"] == OURS, variable["name"]


@every_dashboard
def test_alerts_are_shown_as_regions_when_any_dashboard_opens(path: Path) -> None:
    (alerts,) = load(path)["annotations"]["list"]
    assert (alerts["name"], alerts["enable"]) == ("Alerts", True)
    assert "FROM alert_view" in alerts["target"]["rawSql"]


@every_dashboard
def test_variables_are_quoted_by_format_when_a_query_uses_them(path: Path) -> None:
    """A plain `$metric` in a repeated row reaches PostgreSQL without quotes in 11.6, 12.4 and 13."""
    dashboard = load(path)
    texts = [query.sql for query in queries(dashboard)]
    texts += [variable["query"] for variable in variables(dashboard).values() if variable["type"] == "query"]
    for text in texts:
        for name in variables(dashboard):
            assert not re.search(rf"\${name}\b|\[\[{name}|\$\{{{name}(?!:sqlstring\}})", text), text


@every_dashboard
def test_every_query_is_bounded_in_rows_when_run(path: Path) -> None:
    dashboard = load(path)
    texts = [query.sql for query in queries(dashboard)]
    texts += [variable["query"] for variable in variables(dashboard).values() if variable["type"] == "query"]
    for text in texts:
        bound = re.search(r"LIMIT (\d+)$", text)
        assert bound, text
        assert int(bound[1]) <= 20_000, text


@every_dashboard
def test_every_read_of_readings_is_bounded_in_time_and_series_when_a_query_runs(path: Path) -> None:
    ours = re.compile(r"series_id = ANY \(ARRAY\(SELECT series_id FROM (chosen|hour WHERE share IS NULL)\)\)")
    bounds = re.compile(r"\$__timeFilter\([\w.]+\)|BETWEEN \$__timeFrom|> \$__timeFrom")
    for query in queries(load(path)):
        for read in re.split(r"\bFROM (?=reading(?:_1[mhd])?\b)", query.sql)[1:]:
            scope = re.split(r"UNION ALL|GROUP BY|\n\s*\)", read)[0]
            assert ours.search(scope), query
            assert bounds.search(scope), query


@every_dashboard
@pytest.mark.parametrize(
    ("interval_ms", "relation"),
    [
        (1_000, "reading"),
        (9_999, "reading"),
        (10_000, "reading_1m"),
        (899_999, "reading_1m"),
        (900_000, "reading_1h"),
        (43_199_999, "reading_1h"),
        (43_200_000, "reading_1d"),
        (31_536_000_000, "reading_1d"),
    ],
)
def test_the_relation_fits_the_width_of_a_point_when_several_could_answer(
    path: Path, interval_ms: int, relation: str
) -> None:
    for query in queries(load(path)):
        guards = re.findall(
            r"FROM (reading\w*)\n *WHERE (\$__interval_ms[^\n]*?) AND (?:\$__timeFilter|time|bucket)", query.sql
        )
        active = [name for name, guard in guards if _holds(guard, interval_ms)]
        if guards:
            coarsest = "reading_1m" if relation == "reading" and "FROM reading\n" not in query.sql else relation
            assert active == [coarsest], query


@every_dashboard
def test_raw_readings_are_read_for_an_hour_or_so_when_a_panel_is_as_wide_as_it_may_be(path: Path) -> None:
    for query in queries(load(path)):
        if "FROM reading\n" in query.sql:
            assert query.max_data_points * 10_000 <= 5_000_000, query


@every_dashboard
def test_queries_are_fit_for_the_macro_engine_when_expanded(path: Path) -> None:
    for query in queries(load(path)):
        assert "--" not in query.sql, f"{query}: a macro in a comment breaks the query"
        assert "/*" not in query.sql, query
        assert not re.search(r"GROUP BY[^\n]*\$__", query.sql), query
        if query.format == "time_series":
            assert re.search(r"ORDER BY (1|bucket)\b[^\n]*\n *LIMIT \d+$", query.sql), query


@every_dashboard
def test_links_and_repeats_lead_somewhere_when_followed(path: Path) -> None:
    dashboard = load(path)
    text = path.read_text(encoding="utf-8")
    uids = {load(other)["uid"] for other in PATHS}
    assert set(re.findall(r'"url": "/d/([\w-]+)', text)) <= uids
    known = variables(dashboard)
    assert {row["repeat"] for row in dashboard["panels"] if "repeat" in row} <= known.keys()
    for url in re.findall(r'"url": "([^"]+)"', text):
        for name in re.findall(r"\$\{(\w+)", url):
            assert name in known or name.startswith("__"), url


def test_alert_messages_lead_to_dashboards_that_exist_when_followed() -> None:
    source = (ROOT / "app" / "alerting" / "telling" / "links.py").read_text(encoding="utf-8")
    named = re.findall(r'"d/([\w-]+)"', source)
    by_uid = {dashboard["uid"]: dashboard for dashboard in map(load, PATHS)}
    assert named
    assert set(named) <= by_uid.keys()
    for variable in re.findall(r'"var-(\w+)"', source):
        assert any(variable in variables(by_uid[uid]) for uid in named), variable


def test_home_dashboard_exists_when_compose_names_one() -> None:
    compose = YAML(typ="safe").load(ROOT / "docker-compose.yml")
    home = compose["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert Path(home).parent == Path("/etc/grafana/dashboards")
    assert Path(home).name in {path.name for path in PATHS}


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
    """Evaluate `$__interval_ms >= 10000 AND $__interval_ms < 900000`."""
    bounds = re.findall(r"\$__interval_ms (>=|<) (\d+)", guard)
    return all(interval_ms >= int(edge) if sign == ">=" else interval_ms < int(edge) for sign, edge in bounds)


def _has_unit(panel: Json) -> bool:
    """Return whether numbers get a unit: by default, or from the series by a transformation."""
    from_series = [
        mapping["handlerKey"]
        for transformation in panel.get("transformations", [])
        if transformation["id"] == "configFromData"
        for mapping in transformation["options"]["mappings"]
    ]
    return bool(panel["fieldConfig"]["defaults"].get("unit")) or "unit" in from_series

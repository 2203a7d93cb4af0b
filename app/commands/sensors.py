"""`tidegauge sensor`: lists, describes, renames, retires and deletes sensors."""

from typing import Any

import msgspec
import rich_click as click
from rich.markup import escape
from rich.table import Table

from app.alerting.rules.matching import RuleBook
from app.alerting.rules.model import decode_rule_set
from app.alerting.rules.sql import SQL as RULES_SQL
from app.commands.console import command_body, open_command_pool, output
from app.commands.sql import SQL
from app.db.pool import Pool
from app.errors import InvalidRequestError
from app.sensors.changes import SensorChange, change_sensor, delete_sensor
from app.sensors.listing import SensorItem, fetch_sensor, fetch_sensors

_ALL = 1_000_000


@click.group()
def sensor() -> None:
    """List, describe, rename, retire and delete sensors.

    A server need not run. NAME may also be a name that the sensor had before.
    """


@sensor.command("list")
@click.option("--retired", is_flag=True, help="Also list retired sensors.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list, as /api/v1/sensors has it.")
@command_body
async def sensor_list(retired: bool, as_json: bool) -> None:
    """List sensors with state, time of the newest reading, gateway and tags."""
    async with await open_command_pool() as pool:
        items = await fetch_sensors(pool, "", _ALL, retired=retired)
    if as_json:
        output.print_json(msgspec.json.encode(items).decode())
        return
    table = Table("sensor", "display name", "state", "newest reading", "gateway", "tags", "metrics", box=None)
    for item in items:
        table.add_row(*map(escape, _row(item)))
    output.print(table)


@sensor.command("set")
@click.argument("name")
@click.option("--display-name", help="Shown beside the name; empty for none.")
@click.option("--notes", help="Free text; empty for none.")
@click.option("--expected-interval", help="Time between two readings, such as 10m; empty for unknown.")
@click.option("--unit", "units", multiple=True, metavar="METRIC=UNIT", help="Unit of a metric; repeatable.")
@click.option("--tag", "tags", multiple=True, metavar="TAG=TEXT", help="All tags of the sensor; repeatable.")
@click.option("--forget-name", "forgotten", multiple=True, help="Old name that another sensor may take; repeatable.")
@click.option("--owner", help='The gateway whose uploads set the tags and whose key may write to it; "" for none.')
@click.option("--uploaded-tags", is_flag=True, help="Take the tags that uploads bring, as before --tag.")
@command_body
async def sensor_set(
    name: str,
    units: tuple[str, ...],
    tags: tuple[str, ...],
    forgotten: tuple[str, ...],
    uploaded_tags: bool,
    **texts: Any,
) -> None:
    """Describe a sensor. Uploads do not change what is set here."""
    if tags and uploaded_tags:
        raise click.UsageError("Give either --tag or --uploaded-tags.")
    fields: dict[str, Any] = {field: text or None for field, text in texts.items() if text is not None}
    if units:
        fields["units"] = {metric: unit or None for metric, unit in _pairs("--unit", units).items()}
    if tags or uploaded_tags:
        fields["tags"] = None if uploaded_tags else _pairs("--tag", tags)
    if not fields and not forgotten:
        raise click.UsageError("Give at least one option; `tidegauge sensor set --help` lists them.")
    async with await open_command_pool() as pool:
        if forgotten:
            fields["old_names"] = _without(forgotten, (await fetch_sensor(pool, name)).old_names)
        await change_sensor(pool, name, SensorChange(**fields))
    _say(f"changed {name}")


@sensor.command("rename")
@click.argument("name")
@click.argument("new_name")
@command_body
async def sensor_rename(name: str, new_name: str) -> None:
    """Rename a sensor with all its history; uploads and queries under the old name still reach it.

    Rules select sensors by the new name. The rules that selected it by the old one alone are printed.
    """
    async with await open_command_pool() as pool:
        before = await fetch_sensor(pool, name)
        await change_sensor(pool, name, SensorChange(name=new_name))
        lost = await _rules_lost(pool, before, new_name)
    _say(f"renamed {before.name} to {new_name}")
    for rule in lost:
        _say(f"rule {rule} no longer selects it: change the id in its `sensors`")


@sensor.command("retire")
@click.argument("name")
@click.option("--undo", is_flag=True, help="Take the sensor into use again.")
@command_body
async def sensor_retire(name: str, undo: bool) -> None:
    """Take a sensor out of use until it reports again: its alerts end, and lists leave it out."""
    async with await open_command_pool() as pool:
        await change_sensor(pool, name, SensorChange(retired=not undo))
    _say(f"{name} is in use again" if undo else f"retired {name}; it comes back when it reports again")


@sensor.command("delete")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@command_body
async def sensor_delete(name: str, yes: bool) -> None:
    """Delete a sensor with its readings and alerts, for good.

    It is hidden at once; a worker removes its readings. An upload under its name makes a new sensor.
    """
    async with await open_command_pool() as pool:
        item = await fetch_sensor(pool, name)
        if not yes:
            count = await pool.fetchval(SQL["count_readings_of_sensor"], item.name)
            metrics = ", ".join(item.latest) or "no metrics"
            click.confirm(f"Delete {item.name} ({metrics}) with {count:,} readings, for good?", abort=True, err=True)
            if click.prompt("Type its name to confirm", err=True) != item.name:
                raise InvalidRequestError(f"That is not {item.name!r}; nothing was deleted")
        await delete_sensor(pool, item.name)
    _say(f"deleted {item.name}")


async def _rules_lost(pool: Pool, before: SensorItem, new_name: str) -> list[str]:
    """Return the rules in force that selected a sensor by its old name and do not select it by the new one."""
    stored = await pool.fetchval(RULES_SQL["get_rule_set"])
    if stored is None:
        return []
    book = RuleBook(decode_rule_set(stored))
    selected = {
        name: {
            match.rule.name
            for metric in before.latest
            for match in book.matches(name, metric, before.tags, before.gateway)
        }
        for name in (before.name, new_name)
    }
    return sorted(selected[before.name] - selected[new_name])


def _without(forgotten: tuple[str, ...], old_names: list[str]) -> list[str]:
    """Return the old names that stay; raise InvalidRequestError for one that the sensor never had."""
    for name in forgotten:
        if name not in old_names:
            raise InvalidRequestError(f"{name!r} is not an old name of it; it has {', '.join(old_names) or 'none'}")
    return [name for name in old_names if name not in forgotten]


def _row(item: SensorItem) -> list[str]:
    return [
        item.name,
        item.display_name or "",
        f"{item.state} ({item.level})" if item.level else item.state,
        f"{item.last_seen:%Y-%m-%d %H:%M:%S}" if item.last_seen else "",
        item.gateway or "",
        " ".join(f"{tag}={text}" for tag, text in item.tags.items()),
        " ".join(item.latest),
    ]


def _pairs(option: str, texts: tuple[str, ...]) -> dict[str, str]:
    """Split NAME=TEXT at the first equals sign of each."""
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{text!r} is not of the form NAME=TEXT", param_hint=option)
        pairs[name] = value
    return pairs


def _say(text: str) -> None:
    output.print(escape(text), highlight=False, soft_wrap=True)

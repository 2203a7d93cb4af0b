"""`tidegauge key`: creates, lists and revokes API keys in the database."""

from datetime import timedelta
from typing import Any, Final

import msgspec
import rich_click as click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from app.auth.keys import SCOPES, Binding, Scope, create_key, revoke_key
from app.auth.sql import SQL
from app.commands.console import command_body, duration, load_settings, open_command_pool, output
from app.commands.key_snippets import write_snippets
from app.names import SENSOR_NAME_LIMIT, is_sensor_name, tidy_name

#: The limits as they are stored, and the options that set them.
_LIMITS: Final = {
    "ws_connections": "ws_connections",
    "sensors": "new_sensors",
    "notifications_per_minute": "notifications_per_minute",
    "uploads_per_minute": "rate",
}
#: More characters than a line of the list has.
_WIDEST: Final = 1_000
_TIMES: Final = {
    "created_at": "created",
    "last_used_at": "last used",
    "expires_at": "expires",
    "revoked_at": "revoked",
}


@click.group()
def key() -> None:
    """Create, list and revoke API keys in the database."""


@key.command("create")
@click.argument("label")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(SCOPES),
    required=True,
    help="A scope that the key has; repeatable.",
)
@click.option(
    "--ws-connections",
    type=click.IntRange(min=0),
    help="WebSocket connections that the key may have open at once; 0 means no limit.",
)
@click.option("--new-sensors", type=click.IntRange(min=0), help="New sensors that the key may register in all.")
@click.option(
    "--notifications-per-minute",
    type=click.IntRange(min=0),
    help="Notifications that the key may send in a minute; 0 means no limit.",
)
@click.option("--rate", type=click.IntRange(min=1), help="Uploads that the key may send in a minute.")
@click.option("--gateway", help="Bind the key to this gateway: it cannot write to another gateway's sensors or tags.")
@click.option("--sensors", help='Bind the key to sensors whose names match this pattern, such as "harbour-*".')
@click.option("--prefix", help="Put this before the name of each sensor sent with the key, such as harbour/.")
@click.option("--expires", type=duration, help="Time after which the key stops working, such as 90d.")
@click.option("--plain", is_flag=True, help="Print the key alone, for $(…), without examples of its use.")
@command_body
async def key_create(label: str, scopes: tuple[Scope, ...], plain: bool, **options: Any) -> None:
    """Create a key and print it with examples of its use; it cannot be shown again.

    A key with --gateway, --sensors or --prefix is bound: to the gateway given, else to one named like the key.
    """
    limits = {name: options[option] for name, option in _LIMITS.items() if options[option] is not None}
    binding = _read_binding(label, options["gateway"], options["sensors"], options["prefix"])
    expires_in = None if options["expires"] is None else timedelta(microseconds=options["expires"])
    if expires_in == timedelta(0):
        raise click.BadParameter("a key that never works is of no use; give a time such as 90d", param_hint="--expires")
    settings = load_settings()
    async with await open_command_pool() as pool:
        made = await create_key(pool, label, frozenset(scopes), limits, binding, expires_in)
    print(made)  # noqa: T201 -- plain, for use in $(…)
    if "ingest" in scopes and not plain:
        print(write_snippets(made, settings, None if binding is None else binding.gateway))  # noqa: T201


def _read_binding(label: str, gateway: str | None, sensors: str | None, prefix: str | None) -> Binding | None:
    """Return what a key is bound to, if anything; raise a usage error for what cannot be a name or a pattern.

    Names are read as those in uploads.
    """
    gateway, sensors = (None if text is None else tidy_name(text) for text in (gateway, sensors))
    if prefix is not None and prefix == prefix.strip():  # a blank would be lost, so it is refused below
        prefix = tidy_name(prefix)
    for option, text in (("--gateway", gateway), ("--sensors", sensors), ("--prefix", prefix)):
        if text is not None and not is_sensor_name(text):
            raise click.BadParameter(
                f"{text!r:.60} is not 1 to {SENSOR_NAME_LIMIT} printable characters without blanks around them",
                param_hint=option,
            )
    if sensors is not None and sensors.isdigit():
        raise click.BadParameter(
            f"{sensors!r} is a pattern of names; the number of new sensors is --new-sensors {sensors}",
            param_hint="--sensors",
        )
    if gateway is None and sensors is None and prefix is None:
        return None
    if sensors is not None and prefix is not None and not _may_begin(sensors, prefix):
        raise click.BadParameter(
            f"{sensors!r} matches no name that begins with {prefix!r}, which --prefix puts before each name; write "
            f'--sensors "{prefix}*", or leave it out',
            param_hint="--sensors",
        )
    return Binding(gateway or tidy_name(label), sensors, prefix or "")


def _may_begin(pattern: str, prefix: str) -> bool:
    """Return whether a name that begins with the prefix may match the pattern."""
    for given, wanted in zip(prefix, pattern, strict=False):
        if wanted == "*":
            return True
        if wanted not in ("?", given):
            return False
    return len(pattern) > len(prefix)


@key.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@command_body
async def key_list(as_json: bool) -> None:
    """List labels, scopes, limits and times of all keys; the keys themselves are not stored."""
    async with await open_command_pool() as pool:
        rows = [dict(row) for row in await pool.fetch(SQL["list_keys"])]
    if as_json:
        output.print_json(msgspec.json.encode(rows).decode())
        return
    table = Table("label", "scopes", "limits", "bound to", *_TIMES.values(), box=None)
    for row in rows:
        times = [f"{row[name]:%Y-%m-%d %H:%M}" if row[name] else "" for name in _TIMES]
        limits = " ".join(f"{name}={value}" for name, value in row["limits"].items())
        table.add_row(escape(row["label"]), " ".join(row["scopes"]), limits, escape(_show_binding(row)), *times)
    # As wide as it is: a terminal that is narrower breaks the lines.
    Console(width=_WIDEST).print(table)


def _show_binding(row: dict[str, Any]) -> str:
    if row["gateway"] is None:
        return ""
    more = [f"sensors={row['sensors']}"] if row["sensors"] else []
    return " ".join([f"gateway={row['gateway']}", *more, *([f"prefix={row['prefix']}"] if row["prefix"] else [])])


@key.command("revoke")
@click.argument("label")
@command_body
async def key_revoke(label: str) -> None:
    """Revoke a key; it stops working in every process within seconds."""
    async with await open_command_pool() as pool:
        await revoke_key(pool, label)
    output.print(f"revoked {escape(label)}", highlight=False, soft_wrap=True)

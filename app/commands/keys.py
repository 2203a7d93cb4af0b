"""`tidegauge key`: creates, lists and revokes API keys in the database."""

import msgspec
import rich_click as click
from rich.markup import escape
from rich.table import Table

from app.auth.keys import SCOPES, Scope, create_key, revoke_key
from app.auth.sql import SQL
from app.commands.console import command_body, open_command_pool, output


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
@click.option("--sensors", type=click.IntRange(min=0), help="New sensors that the key may register in all.")
@click.option(
    "--notifications-per-minute",
    type=click.IntRange(min=0),
    help="Notifications that the key may send in a minute; 0 means no limit.",
)
@command_body
async def key_create(label: str, scopes: tuple[Scope, ...], **limits: int | None) -> None:
    """Create a key and print it; it cannot be shown again."""
    given = {name: value for name, value in limits.items() if value is not None}
    async with await open_command_pool() as pool:
        print(await create_key(pool, label, frozenset(scopes), given))  # noqa: T201 -- plain, for use in $(…)


@key.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@command_body
async def key_list(as_json: bool) -> None:
    """List labels, scopes and limits of all keys; the keys themselves are not stored."""
    async with await open_command_pool() as pool:
        rows = [dict(row) for row in await pool.fetch(SQL["list_keys"])]
    if as_json:
        output.print_json(msgspec.json.encode(rows).decode())
        return
    table = Table("label", "scopes", "limits", "created", "revoked", box=None)
    for row in rows:
        times = [f"{row[name]:%Y-%m-%d %H:%M}" if row[name] else "" for name in ("created_at", "revoked_at")]
        limits = " ".join(f"{name}={value}" for name, value in row["limits"].items())
        table.add_row(escape(row["label"]), " ".join(row["scopes"]), limits, *times)
    output.print(table)


@key.command("revoke")
@click.argument("label")
@command_body
async def key_revoke(label: str) -> None:
    """Revoke a key; it stops working in every process within seconds."""
    async with await open_command_pool() as pool:
        await revoke_key(pool, label)
    output.print(f"revoked {escape(label)}", highlight=False, soft_wrap=True)

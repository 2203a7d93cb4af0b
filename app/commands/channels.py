"""`tidegauge channel`: lists the channels of alert messages, and sends test messages."""

import msgspec
import rich_click as click
from rich.markup import escape
from rich.table import Table

from app.alerting.language.files import load_checked
from app.alerting.rules.channel_secrets import resolve_fields
from app.commands.console import command_body, open_command_pool, output
from app.db.lease import is_held
from app.db.pool import Pool
from app.errors import NotFoundError
from app.hints import did_you_mean, listed
from app.notify.channel_states import list_channel_statuses
from app.notify.channels import parse_config
from app.notify.dispatch.attempts import name_outcome
from app.notify.dispatch.channel_tests import ChannelTest, request_test
from app.notify.message import Message
from app.notify.transport import DeliveryError, Endpoints, open_session
from app.settings import Settings


@click.group()
def channel() -> None:
    """List the channels of alert messages, and send test messages."""


@channel.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list, as /api/v1/channels has it.")
@command_body
async def channel_list(as_json: bool) -> None:
    """List the channels of the rules in force, and whether they work."""
    async with await open_command_pool() as pool:
        statuses = await list_channel_statuses(pool)
    if as_json:
        output.print_json(msgspec.json.encode(statuses).decode())
        return
    table = Table("channel", "type", "state", "reason", box=None)
    for each in statuses:
        table.add_row(*map(escape, (each.name, each.type, each.state, each.reason or "")))
    output.print(table)


@channel.command("test")
@click.argument("name")
@command_body
async def channel_test(name: str) -> int:
    """Send a test message through a channel; a message that arrives mends a broken channel.

    While a worker runs, it sends the message, through a channel of the rules in force. Otherwise it is sent from here,
    through a channel of the rule files. The exit code is 1 if the message did not arrive for certain.
    """
    settings = Settings.from_environment()
    async with await open_command_pool() as pool:
        outcome = await _through_worker(pool, name) if await is_held(pool) else await _from_here(settings, name)
    output.print(escape(f"{name}: {outcome.outcome}{f', {outcome.error}' if outcome.error else ''}"))
    return 0 if outcome.outcome == "sent" else 1


async def _through_worker(pool: Pool, name: str) -> ChannelTest:
    _require(name, [each.name for each in await list_channel_statuses(pool)])
    return await request_test(pool, name)


async def _from_here(settings: Settings, name: str) -> ChannelTest:
    channels = {each.name: each for each in load_checked(settings.rules_dir, settings).channels}
    _require(name, list(channels))
    fields = resolve_fields(channels[name].fields, settings.channel_variables)
    endpoints = Endpoints(settings.slack_webhook_prefix, settings.telegram_api_base)
    kind, config = parse_config(channels[name].type, fields, endpoints)
    rendered = kind.render(Message(title="Test", text=f"The channel {name} works."))
    async with open_session() as session:
        try:
            return ChannelTest(name, name_outcome(await kind.send(session, config, rendered, endpoints)))
        except DeliveryError as error:
            return ChannelTest(name, name_outcome(error), error.reason)


def _require(name: str, known: list[str]) -> None:
    if name not in known:
        there_are = f"there are {listed(known)}" if known else "no channel is defined"
        raise NotFoundError(f"There is no channel {name!r}{did_you_mean(name, known)} ({there_are})")

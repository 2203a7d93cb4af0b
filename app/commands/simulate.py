"""`tidegauge simulate`: simulated gateways that send readings to any server."""

from typing import Any

import msgspec
import rich_click as click

from app.commands.console import command_body, duration, load_settings, output, stderr
from app.commands.processes.development_key import find_development_key
from app.errors import SettingsError
from app.simulate import Plan, render_summary, simulate
from app.uplink import server_url


@click.command("simulate")
@click.option("--url", help="Address of the server; default: the address that HOST and PORT give.")
@click.option("--key", help="API key with the scope ingest; default: API_KEY or the development key.")
@click.option("--gateways", type=click.IntRange(1, 1_000), default=3, show_default=True, help="Number of gateways.")
@click.option(
    "--sensors", type=click.IntRange(1, 10_000), default=4, show_default=True, help="Number of sensors at each gateway."
)
@click.option(
    "--every",
    "every_us",
    type=duration,
    default="5s",
    show_default=True,
    help="Time between two readings of a sensor.",
)
@click.option(
    "--batch",
    "batch_us",
    type=duration,
    default="20s",
    show_default=True,
    help="Time between two uploads of a gateway.",
)
@click.option("--for", "duration_us", type=duration, help="How long to run; default: until Ctrl-C.")
@click.option(
    "--speed",
    type=click.FloatRange(1),
    default=1.0,
    show_default=True,
    help="How many times faster than the clock the times of the readings advance; needs --for. "
    "The readings begin in the past and reach the present at the end of the run.",
)
@click.option(
    "--history",
    "history_us",
    type=duration,
    default="0",
    help="Before the run, send the readings of this much of the past in bulk.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed makes the same readings.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
@command_body
async def simulate_command(url: str | None, key: str | None, as_json: bool, **options: Any) -> int:
    """Send readings as real gateways do: late, twice, in bulk, and with wrong clocks.

    Simulated gateways go offline and replay their buffers, lose answers and send again, and wait when the server asks
    them to. The same seed makes the same readings, whatever happens on the way. On a terminal, a table shows the
    progress. Ctrl-C ends the simulation after sending the buffered readings; a second Ctrl-C drops them.

    The exit code is 1 when readings were dropped or rejected.
    """
    settings = load_settings()
    key = key or settings.api_key or find_development_key(settings.data_dir)
    if key is None:
        raise SettingsError("No API key: give --key or set API_KEY to a key with the scope ingest")
    summary = await simulate(Plan(url=url or server_url(settings), key=key, **options), stderr)
    if as_json:
        output.print_json(msgspec.json.encode(summary).decode())
    else:
        output.print(render_summary(summary), highlight=False)
    return 0 if summary.is_clean else 1

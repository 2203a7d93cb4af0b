"""`tidegauge simulate`: gateways that behave like real ones, against any server."""

from typing import Any

import msgspec
import rich_click as click

from app.commands.console import command_body, duration, load_settings, output, people
from app.commands.development_keys import find_development_key
from app.errors import SettingsError
from app.simulate import Plan, render_summary, server_url, simulate


@click.command("simulate")
@click.option("--url", help="The server; left out, the one that HOST and PORT name.")
@click.option("--key", help="A key with the scope ingest; left out, API_KEY or the development key.")
@click.option("--gateways", type=click.IntRange(1, 1_000), default=3, show_default=True, help="How many.")
@click.option("--sensors", type=click.IntRange(1, 10_000), default=4, show_default=True, help="At each gateway.")
@click.option(
    "--every", "every_us", type=duration, default="5s", show_default=True, help="Between two readings of a sensor."
)
@click.option(
    "--batch", "batch_us", type=duration, default="20s", show_default=True, help="Between two uploads of a gateway."
)
@click.option("--for", "duration_us", type=duration, help="How long to run; left out, until Ctrl-C.")
@click.option(
    "--speed",
    type=click.FloatRange(1),
    default=1.0,
    show_default=True,
    help="How much faster event time runs; needs --for, at whose end it reaches the present.",
)
@click.option("--history", "history_us", type=duration, default="0", help="First replay so much of the past in bulk.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed makes the same readings.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
@command_body
async def simulate_command(url: str | None, key: str | None, as_json: bool, **options: Any) -> int:
    """Send readings as real gateways do: late, twice, in bulk, by clocks that are wrong.

    Gateways go offline and replay their buffers, lose answers and send again, wait when the server says so. The
    same seed makes the same readings, however they travel. On a terminal a table shows how it goes.
    Ctrl-C ends it and sends what is left; a second Ctrl-C drops that.

    Exit code 1 when something was dropped or rejected.
    """
    settings = load_settings()
    key = key or settings.api_key or find_development_key(settings.data_dir)
    if key is None:
        raise SettingsError("No API key: give --key or set API_KEY to a key with the scope ingest")
    summary = await simulate(Plan(url=url or server_url(settings), key=key, **options), people)
    if as_json:
        output.print_json(msgspec.json.encode(summary).decode())
    else:
        output.print(render_summary(summary), highlight=False)
    return 0 if summary.is_clean else 1

"""`tidegauge mqtt`: runs the bridge from an MQTT broker to the API."""

from pathlib import Path

import rich_click as click

from app.commands.console import command_body, load_settings, output
from app.commands.processes.development_key import find_development_key
from app.commands.processes.server import listen, run_app
from app.errors import SettingsError
from app.main import create_bridge_app
from app.mqtt.plan.files import load_plan
from app.settings import Settings
from app.uplink import server_url

#: Beside the worker's 8001.
DEFAULT_PORT = 8002


@click.command("mqtt")
@click.argument("file", type=click.Path(path_type=Path), default=Path("mqtt.yml"))
@click.option("--url", help="Address of the server; default: the address that HOST and PORT give.")
@click.option("--key", help="API key with the scope ingest; default: MQTT_API_KEY, API_KEY or the development key.")
@click.option(
    "--port",
    default=DEFAULT_PORT,
    show_default=True,
    type=click.IntRange(0, 65_535),
    help="Port of its /health/live, /health/ready and /metrics, on HOST.",
)
@click.option("--check", "only_check", is_flag=True, help="Check FILE, print what it subscribes to, and end.")
@command_body
async def mqtt_command(file: Path, url: str | None, key: str | None, port: int, only_check: bool) -> None:
    """Upload the messages of an MQTT broker as readings; FILE maps topics to sensors and metrics.

    A message is acknowledged to the broker after its reading is committed, so the broker keeps messages that are not
    stored yet, even if a process is killed. MQTT_USERNAME and MQTT_PASSWORD log in to the broker.
    """
    settings = load_settings()
    plan = load_plan(file)
    if only_check:
        for one in plan.filters:
            output.print(one, markup=False, highlight=False)
        return
    app = create_bridge_app(settings, plan, url or server_url(settings), key or _find_key(settings))
    await run_app(app, await listen(settings.host, port), on_hangup=lambda: None)


def _find_key(settings: Settings) -> str:
    key = settings.mqtt_api_key or settings.api_key or find_development_key(settings.data_dir)
    if key is None:
        raise SettingsError("No API key: give --key or set MQTT_API_KEY to a key with the scope ingest")
    return key

"""`tidegauge work`: runs the worker, with its health and metrics over HTTP."""

import rich_click as click

from app.commands.console import command_body, load_settings
from app.commands.processes.server import listen, run_app
from app.commands.processes.supervisor import end_with_supervisor
from app.main import create_worker_app
from app.settings import Settings
from app.worker import Worker

#: Beside the API's 8000.
DEFAULT_PORT = 8001


@click.command("work")
@click.option(
    "--port",
    default=DEFAULT_PORT,
    show_default=True,
    type=click.IntRange(0, 65_535),
    help="Port of its /health/live, /health/ready and /metrics, on HOST.",
)
@click.option("--supervised", is_flag=True, hidden=True, help="End with the supervisor, and listen on no port.")
@command_body
async def work_command(port: int, supervised: bool) -> None:
    """Run the worker: it evaluates rules, watches for silence, sends alerts, keeps aggregates and retention.

    It needs DATABASE_URL and a migrated schema, and no API key. Of several workers one works and the others stand by.
    SIGHUP reads the rules again.
    """
    settings = load_settings()
    if supervised:
        with end_with_supervisor():
            await work(settings, None)
    else:
        await work(settings, port)


async def work(settings: Settings, port: int | None) -> None:
    """Run the worker until SIGINT or SIGTERM; SIGHUP reloads the rules. Raise AppError when it cannot start.

    With `port`, it answers probes there.
    """
    app = create_worker_app(settings)
    worker: Worker = app.state.worker
    listening = [] if port is None else await listen(settings.host, port)
    async with worker.prepared():
        pass
    await run_app(app, listening, on_hangup=worker.reload_rules)

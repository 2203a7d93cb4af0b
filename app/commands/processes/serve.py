"""`tidegauge serve`: runs the API in one process, or in several under a supervisor."""

import socket
from collections.abc import Sequence

import rich_click as click

from app.commands.console import command_body, load_settings
from app.commands.processes.server import listen, run_app
from app.commands.processes.supervisor import Program, end_with_supervisor, supervise
from app.main import create_app
from app.services import Services
from app.settings import Settings


@click.command("serve")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="Number of processes.")
@click.option("--no-key", is_flag=True, hidden=True, help="Start without an API key.")
@click.option("--listening", multiple=True, type=int, hidden=True, help="Number of an inherited listening socket.")
@command_body
async def serve_command(workers: int, no_key: bool, listening: tuple[int, ...]) -> None:
    """Run the API: ingest, queries, live feed, page and notification broker.

    It needs DATABASE_URL, a migrated schema and at least one API key. Rules are evaluated and alerts sent by `tidegauge
    work`. Several processes share the port; one that dies is started again.
    """
    settings = load_settings()
    if listening:
        with end_with_supervisor():
            await serve(settings, not no_key, [socket.socket(fileno=number) for number in listening])
    elif workers == 1:
        await serve(settings)
    else:
        await serve_with_workers(settings, workers)


async def serve(settings: Settings, needs_key: bool = True, listening: Sequence[socket.socket] = ()) -> None:
    """Run the API until SIGINT or SIGTERM. Raise AppError when it cannot start.

    With `needs_key`, it does not start while no API key exists. Without `listening` sockets, open them by the settings.
    """
    app = create_app(settings, needs_key)
    # uvicorn would also open the sockets, and the lifespan would also check the start, but both print a stack trace
    # when they fail.
    listening = listening or await listen(settings.host, settings.port)
    await check_start(app.state.services)
    await run_app(app, listening, on_hangup=lambda: None)


async def serve_with_workers(settings: Settings, count: int) -> None:
    """Run the API in several processes on one port until SIGINT or SIGTERM. Raise AppError when it cannot start."""
    services = Services(settings)
    listening = await listen(settings.host, settings.port)
    await check_start(services)
    programs = [Program(f"serve {number}", ("serve",), listening=listening) for number in range(1, count + 1)]
    await supervise(programs)


async def check_start(services: Services) -> None:
    """Raise AppError, with a message of one line, when the services cannot start."""
    async with services.prepared():
        pass

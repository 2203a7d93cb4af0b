"""The `tidegauge` command, assembled from its subcommands."""

import rich_click as click

from app import __version__
from app.commands.channels import channel
from app.commands.doctor import doctor
from app.commands.keys import key
from app.commands.migrate import migrate_command
from app.commands.processes.mqtt import mqtt_command
from app.commands.processes.serve import serve_command
from app.commands.processes.up import up
from app.commands.processes.work import work_command
from app.commands.rules import check, rules
from app.commands.sensors import sensor
from app.commands.simulate import simulate_command
from app.commands.transfer import export_command, import_command

click.rich_click.TEXT_MARKUP = "markdown"
click.rich_click.SHOW_ARGUMENTS = True


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tidegauge")
def main() -> None:
    """Store sensor readings, and serve trends, alerts and a live feed.

    Settings are read from the environment and from `.env`; `.env.example` lists all of them.
    Exit codes: 0 done, 1 refused or failed (one line gives the reason), 2 wrong usage, 130 interrupted.
    """


for command in (
    up,
    serve_command,
    work_command,
    migrate_command,
    doctor,
    check,
    rules,
    sensor,
    channel,
    key,
    export_command,
    import_command,
    mqtt_command,
    simulate_command,
):
    main.add_command(command)


if __name__ == "__main__":
    main()

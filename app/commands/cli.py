"""The `tidegauge` command, assembled from its subcommands."""

from importlib import import_module

import rich_click as click

from app import __version__

#: Each command: the module of this package and the name in it. A module is imported when its command is used, because
#: to import all of them takes a second.
_COMMANDS = {
    "up": ("processes.up", "up"),
    "serve": ("processes.serve", "serve_command"),
    "work": ("processes.work", "work_command"),
    "migrate": ("migrate", "migrate_command"),
    "doctor": ("doctor", "doctor"),
    "check": ("rules", "check"),
    "rules": ("rules", "rules"),
    "sensor": ("sensors", "sensor"),
    "channel": ("channels", "channel"),
    "key": ("keys", "key"),
    "export": ("transfer", "export_command"),
    "import": ("transfer", "import_command"),
    "mqtt": ("processes.mqtt", "mqtt_command"),
    "simulate": ("simulate", "simulate_command"),
}

click.rich_click.TEXT_MARKUP = "markdown"
click.rich_click.SHOW_ARGUMENTS = True


class _Commands(click.RichGroup):
    """The commands in the order of `_COMMANDS`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return [*_COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; return None if there is none of that name."""
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(f"app.commands.{module}"), name)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tidegauge")
def main() -> None:
    """Store sensor readings, and serve trends, alerts and a live feed.

    Settings are read from the environment and from `.env`; `.env.example` lists all of them.
    Exit codes: 0 done, 1 refused or failed (one line gives the reason), 2 wrong usage, 130 interrupted.
    """


if __name__ == "__main__":
    main()

"""The `tidegauge` command, run as `python -m app`."""

from app.commands.cli import main

if __name__ == "__main__":
    main()

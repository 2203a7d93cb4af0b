"""`python -m app` is `tidegauge`."""

from app.commands.cli import main

if __name__ == "__main__":
    main()

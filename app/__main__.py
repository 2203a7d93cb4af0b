"""`python -m app` is `tidegauge`."""

from app.cli import main

if __name__ == "__main__":
    main()

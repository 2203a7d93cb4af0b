"""`python -m tests.clients` runs the clients of other systems with faults in between, and prints the table."""

import asyncio
import tempfile
from pathlib import Path

from tests.clients.table import measure, render


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        print(render(asyncio.run(measure(Path(folder)))))


if __name__ == "__main__":
    main()

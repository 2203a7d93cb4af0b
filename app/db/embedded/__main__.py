"""`python -m app.db.embedded`: fetches what the embedded server needs, without starting it."""

import sys

from app.db.embedded.programs import ensure_programs
from app.db.embedded.server import say_on_stderr
from app.errors import AppError
from app.settings import Settings


def main() -> int:
    """Fetch the programs unless they are present or DATABASE_URL is set; return the exit code."""
    try:
        if Settings.from_environment().database_url:
            say_on_stderr("DATABASE_URL is set: no embedded server is needed.")
        else:
            ensure_programs(say_on_stderr)
    except AppError as error:
        say_on_stderr(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

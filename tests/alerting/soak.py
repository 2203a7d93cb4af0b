"""Compares many more random histories with the oracles than the test run does.

`python -m tests.alerting.soak --histories 20000 [--first SEED] [--minutes MINUTES]`
"""

import argparse
import sys
import time

from tests.alerting import timed_histories
from tests.alerting.histories import check_history, describe, random_history
from tests.alerting.timed_histories import check_timed_history, random_timed_history


def main() -> int:
    """Check seeds one after another and return 0. At the first that fails, print its history and return 1.

    A history of each kind has the same seed. Without enough time, fewer are checked, and the last line says how many.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--histories", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--minutes", type=float, default=60.0, help="end after this time")
    options = parser.parse_args()
    began, done = time.monotonic(), 0
    for seed in range(options.first, options.first + options.histories):
        if time.monotonic() - began > 60 * options.minutes:
            break
        try:
            check_history(seed)
        except AssertionError as failure:
            print(f"seed {seed} failed:\n{describe(random_history(seed))}\n{failure}", file=sys.stderr)
            return 1
        try:
            check_timed_history(seed)
        except AssertionError as failure:
            history = timed_histories.describe(random_timed_history(seed))
            print(f"seed {seed} failed:\n{history}\n{failure}", file=sys.stderr)
            return 1
        done += 1
    print(f"{done:,} histories of each kind agree with the oracles, {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())

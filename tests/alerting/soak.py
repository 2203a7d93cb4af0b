"""Compares many more random histories with the oracle than the test run does.

`python -m tests.alerting.soak --histories 20000 [--first SEED]`
"""

import argparse
import sys
import time

from tests.alerting import timed_histories
from tests.alerting.histories import check_history, describe, random_history
from tests.alerting.timed_histories import check_timed_history, random_timed_history


def main() -> int:
    """Check seeds one after another and return 0. At the first that fails, print its history and return 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--histories", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    options = parser.parse_args()
    began = time.monotonic()
    for seed in range(options.first, options.first + options.histories):
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
    print(f"{options.histories} histories of each kind agree with the oracles, {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Puts known faults into copies of the program, one at a time, and expects the test named beside each to find it.

`python -m tests.alerting.mutants [NAME …]` prints which test killed which mutant, and returns 1 if one survived.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from tests.conftest import project_folder


class Mutant(NamedTuple):
    """A fault: in `file`, `code` becomes `fault`. The test must fail then."""

    name: str
    file: str
    code: str
    fault: str
    test: str


_TIMED = "app/alerting/episodes/timed.py"
_REPLAY = "app/alerting/episodes/replay.py"
_SAMPLES = "app/alerting/episodes/samples.py"
_PROGRESS = "app/alerting/evaluation/progress.py"
_TESTS = "tests/alerting/episodes/test_timed.py::test_"
_OF_SAMPLES = "tests/alerting/episodes/test_samples.py::test_"
_OF_PENDING = "tests/alerting/evaluation/test_pending.py::test_"
_RANDOM = f"{_TESTS}random_histories_agree_with_two_oracles"

MUTANTS = (
    Mutant(
        "horizon ignored",
        _TIMED,
        " and at <= self._horizon_us:",
        ":",
        f"{_TESTS}held_value_fires_nothing_after_the_horizon",
    ),
    Mutant(
        "horizon excluded",
        _TIMED,
        "at <= self._horizon_us:",
        "at < self._horizon_us:",
        f"{_TESTS}held_value_fires_nothing_after_the_horizon",
    ),
    Mutant(
        "held sample at d = n",
        _TIMED,
        "        self.pass_until(sample.t)\n",
        "        self.pass_until(sample.t + 1)\n",
        f"{_TESTS}stored_reading_counts_alone_at_its_own_time",
    ),
    Mutant(
        "max_gap ignored while held",
        "app/alerting/episodes/machine.py",
        "return (self.max_gap_us or 0) if self.holds else 0",
        "return 10**15 if self.holds else 0",
        f"{_TESTS}value_is_held_for_max_gap_at_most",
    ),
    Mutant(
        "hole measured from a held sample",
        _TIMED,
        "        self._sample_at = stored_at\n",
        "",
        f"{_TESTS}hole_is_measured_between_stored_samples_also_while_a_value_was_held",
    ),
    Mutant(
        "clock not stopped by a companion",
        _TIMED,
        "if has_reading and not allowed:",
        "if False:",
        f"{_TESTS}companion_that_fails_stops_the_clock_between_samples",
    ),
    Mutant(
        "unknown companion silences",
        _TIMED,
        "known is not None and at - known[0] <= companion.max_age_us and not is_met(known[1])",
        "known is None or at - known[0] > companion.max_age_us or not is_met(known[1])",
        f"{_TESTS}companion_that_is_not_known_silences_nothing",
    ),
    Mutant(
        "companion known a microsecond too long",
        _TIMED,
        "at - known[0] <= companion.max_age_us",
        "at - known[0] <= companion.max_age_us + 1",
        f"{_TESTS}companion_that_is_not_known_silences_nothing",
    ),
    Mutant(
        "companion of a later time looked at",
        _TIMED,
        "        self._learn(sample.t)\n        self._machine.allowed = self._is_allowed(sample.t)\n",
        "        self._machine.allowed = self._is_allowed(sample.t)\n        self._learn(sample.t)\n",
        f"{_TESTS}companion_reading_at_the_time_of_a_sample_counts_for_it",
    ),
    Mutant(
        "clear looks at the second metric",
        _TIMED,
        "if self._clear is not None and not self._clear(sample.value):",
        "if False:",
        f"{_TESTS}clear_as_written_does_not_look_at_the_second_metric",
    ),
    Mutant(
        "next_due forgotten",
        _REPLAY,
        "        return None if due == NEVER else due",
        "        return None",
        f"{_TESTS}replay_says_when_the_first_held_sample_is_due",
    ),
    Mutant(
        "next_due before the replay lost",
        _REPLAY,
        "            due = min(due, before)",
        "            pass",
        _RANDOM,
    ),
    Mutant(
        "held value before the clocks not read",
        _REPLAY,
        "before[max(first - 1, 0) if self._rule.holds else first :]",
        "before[first:]",
        f"{_TESTS}replay_reads_the_value_that_was_held_before_the_clocks_it_needs",
    ),
    Mutant(
        "early stop before what is held",
        _REPLAY,
        " + self._rule.lookback_us + self._rule.held_us",
        "",
        _RANDOM,
    ),
    Mutant(
        "episode that was open forgotten in a new era",
        _REPLAY,
        "                self._open = known.inherited",
        "                pass",
        f"{_TESTS}era_begins_with_its_first_reading_in_the_episode_that_was_open",
    ),
    Mutant(
        "shortcut past a held sample",
        _PROGRESS,
        "return self.resolved_us <= memory.evaluated_to",
        "return True",
        "tests/alerting/evaluation/test_progress.py::test_reading_before_a_held_sample_that_resolved_is_not_skipped",
    ),
    Mutant(
        "reset counted negative",
        _SAMPLES,
        "after - before if after >= before else after for",
        "after - before for",
        f"{_OF_SAMPLES}increase_counts_a_reset_from_zero_when_a_counter_falls",
    ),
    Mutant(
        "reset counted as nothing",
        _SAMPLES,
        "after - before if after >= before else after for",
        "max(after - before, 0.0) for",
        f"{_OF_SAMPLES}increase_counts_a_reset_from_zero_when_a_counter_falls",
    ),
    Mutant(
        "shortcut by the extremes of a counter",
        "app/alerting/episodes/shortcut.py",
        'if kind == "increase" or self._value.counter:',
        'if kind == "increase":',
        "tests/alerting/episodes/test_shortcut.py::test_there_is_no_shortcut_for_counters",
    ),
    Mutant(
        "pending counted early",
        "app/alerting/evaluation/source.py",
        "after_us = self._until_us + 1",
        "after_us = self._until_us + 3_600_000_000",
        f"{_OF_PENDING}for_is_not_reached_by_readings_from_the_future",
    ),
    Mutant(
        "pending shown as the latest",
        "app/ingest/flush/batch.py",
        "        if not self.batch.has_pending:\n            return self.newest\n",
        "        return self.newest\n",
        f"{_OF_PENDING}reading_from_the_future_is_not_the_latest_until_its_time_has_come",
    ),
)


def main() -> int:
    """Try the mutants named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    names = parser.parse_args().names
    survivors = [each.name for each in MUTANTS if (not names or each.name in names) and not _is_killed(each)]
    print(f"{len(survivors)} survived{': ' if survivors else ''}{', '.join(survivors)}")
    return 1 if survivors else 0


def _is_killed(mutant: Mutant) -> bool:
    with TemporaryDirectory() as folder:
        copy = Path(folder)
        for part in ("app", "tests", "migrations", "rules"):
            shutil.copytree(project_folder() / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(project_folder() / "pyproject.toml", copy)
        file = copy / mutant.file
        text = file.read_text()
        if text.count(mutant.code) != 1:
            raise ValueError(f"{mutant.name}: {mutant.file} has this {text.count(mutant.code)} times: {mutant.code!r}")
        file.write_text(text.replace(mutant.code, mutant.fault))
        # Of a parametrized test, each kind is tried; a fault that stops the program from starting kills nothing.
        options = ("-q", "-x", "-p", "no:cacheprovider", "-n0", "--timeout=300")
        command = [sys.executable, "-m", "pytest", *options, mutant.test]
        ran = subprocess.run(
            command, cwd=copy, env={**os.environ, "PYTHONPATH": str(copy)}, capture_output=True, text=True, check=False
        )
    is_killed = ran.returncode == 1 and "1 failed" in ran.stdout
    print(f"{'killed' if is_killed else 'SURVIVED'}: {mutant.name} ({mutant.test.rpartition('::')[2]})", flush=True)
    if not is_killed:
        print(ran.stdout[-2_000:], file=sys.stderr)
    return is_killed


if __name__ == "__main__":
    sys.exit(main())

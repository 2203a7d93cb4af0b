"""The results of all soaks so far, in a file: one line for each round, with its seed and the commit."""

import subprocess
from collections import Counter, defaultdict
from pathlib import Path

import msgspec

from tests.conftest import project_folder

FOLDER = project_folder() / ".soak"


class Round(msgspec.Struct, frozen=True):
    """One finished round of a part of the soak."""

    part: str
    seed: int
    commit: str
    #: What was done, such as the process that was killed.
    what: str
    passed: bool = True


class Totals:
    """The rounds in a file; new ones are appended."""

    def __init__(self, file: Path = FOLDER / "rounds.jsonl") -> None:
        self._file = file
        file.parent.mkdir(exist_ok=True)
        lines = file.read_bytes().splitlines() if file.exists() else []
        self.rounds = [msgspec.json.decode(line, type=Round) for line in lines]
        self._commit = _commit()

    def next_seed(self, part: str) -> int:
        """Return the seed after the largest one of a part, so that a soak continues where the last one ended."""
        return max((done.seed for done in self.rounds if done.part == part), default=-1) + 1

    def add(self, part: str, seed: int, what: str, *, passed: bool = True) -> None:
        """Keep a round."""
        done = Round(part, seed, self._commit, what, passed)
        self.rounds.append(done)
        with self._file.open("ab") as file:
            file.write(msgspec.json.encode(done) + b"\n")

    def summary(self) -> str:
        """Return a line for each part: rounds by what was done, failures, commits."""
        parts: dict[str, list[Round]] = defaultdict(list)
        for done in self.rounds:
            parts[done.part].append(done)
        return "\n".join(_describe(part, rounds) for part, rounds in parts.items())


def _describe(part: str, rounds: list[Round]) -> str:
    counts = Counter(done.what for done in rounds)
    failed = [str(done.seed) for done in rounds if not done.passed]
    commits = len({done.commit for done in rounds})
    listed = ", ".join(f"{count:,} × {what}" for what, count in counts.most_common(12))
    return (
        f"{part}: {len(rounds):,} rounds on {commits} commits, "
        f"{len(failed)} failed{': seeds ' + ' '.join(failed) if failed else ''}\n    {listed}"
    )


def _commit() -> str:
    """Return the present commit, with + when files differ from it."""
    commit = _git("rev-parse", "--short", "HEAD")
    return commit + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=project_folder(), capture_output=True, text=True, check=False
    ).stdout.strip()

"""The project's documents, taken apart: fenced blocks, links, headings, and the table of blocks that are not run."""

import re
from functools import cache
from typing import NamedTuple

from tests.conftest import project_folder

ROOT = project_folder()
DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "docs/README.md",
    "docs/clients.md",
    "docs/gateways.md",
    "docs/grafana.md",
    "docs/live-feed.md",
    "docs/operators.md",
    "docs/sizing.md",
    "docs/trends.md",
    "rules/README.md",
)
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
_NOT_RUN = re.compile(r"^\| (\S+\.md) \| `([^`]+)` \| (.+) \|$", re.MULTILINE)


class Block(NamedTuple):
    """A fenced block of a document."""

    document: str
    #: Of its first line.
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        """Name the block for people."""
        return f"{self.document}:{self.line}"

    @property
    def is_run(self) -> bool:
        """Whether the block is not in the table of those that are not run."""
        return not any(self.begins_as(document, beginning) for document, beginning, _ in not_run())

    def begins_as(self, document: str, beginning: str) -> bool:
        """Return whether this is the block that a row of the table names."""
        return self.document == document and self.text.startswith(beginning)


def read(document: str) -> str:
    """Return a document's text."""
    return (ROOT / document).read_text(encoding="utf-8")


@cache
def blocks(document: str) -> tuple[Block, ...]:
    """Return a document's fenced blocks in order, without the indent of a list that they stand in."""
    text = read(document)
    found = []
    for match in _FENCE.finditer(text):
        lines = [line.removeprefix(match["indent"]) for line in match["text"].splitlines(keepends=True)]
        found.append(Block(document, text.count("\n", 0, match.start()) + 2, match["language"], "".join(lines)))
    return tuple(found)


def blocks_to_run(language: str, *documents: str) -> list[Block]:
    """Return the blocks of a language that are to be run, of some documents or of all."""
    chosen = [block for document in documents or DOCUMENTS for block in blocks(document)]
    return [block for block in chosen if block.language == language and block.is_run]


@cache
def not_run() -> tuple[tuple[str, str, str], ...]:
    """Return the table of docs/README.md: document, beginning of the block, reason."""
    return tuple(_NOT_RUN.findall(read("docs/README.md")))


def rows(document: str, header: str) -> list[list[str]]:
    """Return the cells of every table of a document that has this header, row by row."""
    found = []
    for table in read(document).split(f"\n{header}\n")[1:]:
        for line in table.splitlines()[1:]:
            if not line.startswith("|"):
                break
            found.append([cell.strip() for cell in line.strip("|").split(" |")])
    assert found, (document, header)
    return found


@cache
def prose(document: str) -> str:
    """Return a document without its fenced blocks."""
    return _FENCE.sub("", read(document))


@cache
def anchors(document: str) -> frozenset[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(document), re.MULTILINE)
    return frozenset(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings)

"""The machine's apt sources, read in both formats and changed to another Debian release.

Formats: https://manpages.debian.org/sources.list.5
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

#: Names under which Debian's own archive publishes a release.
_RELEASES = "buster|bullseye|bookworm|trixie|forky|duke|sid|oldoldstable|oldstable|stable|testing|unstable"
_SUITE = re.compile(rf"(?:{_RELEASES})(?P<part>-updates|-security|/updates)?")
_ONE_LINE = re.compile(r"deb\s+(?:\[(?P<options>[^]]*)\]\s*)?(?P<uri>\S+)\s+(?P<suite>\S+)(?P<components>.*)")
#: Options of the one-line format that have another name in the deb822 format.
_FIELDS = {"arch": "architectures", "lang": "languages", "target": "targets"}
_SPECIFIC = {"types", "uris", "suites", "components", "enabled", "x-repolib-name"}


class AptSource(msgspec.Struct, frozen=True):
    """One binary archive that apt reads; options are (field, value) as the deb822 format writes them."""

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    options: tuple[tuple[str, str], ...] = ()


def read_sources(folder: Path) -> list[AptSource]:
    """Read `sources.list` and `sources.list.d` of an apt folder; unreadable files are left out."""
    parts = folder / "sources.list.d"
    lists = [folder / "sources.list", *sorted(parts.glob("*.list"))]
    one_line = [source for path in lists for source in parse_one_line(_text(path))]
    deb822 = [source for path in sorted(parts.glob("*.sources")) for source in parse_deb822(_text(path))]
    return one_line + deb822


def parse_one_line(text: str) -> list[AptSource]:
    """Parse `deb [options] uri suite component…` lines; `deb-src` and comments are left out."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    matches = (_ONE_LINE.fullmatch(line) for line in lines)
    return [
        AptSource(
            (match["uri"],),
            (match["suite"],),
            tuple(match["components"].split()),
            tuple(_one_line_options(match["options"] or "")),
        )
        for match in matches
        if match
    ]


def parse_deb822(text: str) -> list[AptSource]:
    """Parse stanzas of `Field: value`; disabled stanzas and those without binary packages are left out."""
    uncommented = "\n".join(line.rstrip() for line in text.splitlines() if not line.startswith("#"))
    stanzas = (dict(_fields(stanza)) for stanza in re.split(r"\n{2,}", uncommented))
    return [_source(fields) for fields in stanzas if _is_used(fields)]


def retarget(sources: Iterable[AptSource], release: str) -> list[AptSource]:
    """Return Debian's own archives, with the suites of `release` in place of their present suites.

    An archive counts as Debian's own when its suite is a Debian release and it has a component `main`. Suites with
    `-updates` and `-security` are kept, backports and proposed updates are left out.
    """
    found = (_retargeted(source, release) for source in sources if "main" in source.components)
    return list(dict.fromkeys(source for source in found if source.uris and source.suites))


def render(sources: Iterable[AptSource]) -> str:
    """Format sources in the deb822 format."""
    return "\n\n".join(_stanza(source) for source in sources) + "\n"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _one_line_options(text: str) -> Iterator[tuple[str, str]]:
    for option in text.split():
        name, _, value = option.partition("=")
        if value and not name.endswith(("+", "-")):
            yield _FIELDS.get(name, name), value.replace(",", " ")


def _fields(stanza: str) -> Iterator[tuple[str, str]]:
    """Yield the fields of a stanza; a value keeps its further lines with their leading space, as a key block needs."""
    for match in re.finditer(r"^([\w-]+):[ \t]*(.*(?:\n[ \t].*)*)", stanza, re.MULTILINE):
        yield match[1].lower(), match[2]


def _is_used(fields: dict[str, str]) -> bool:
    off = {"no", "false", "without", "off", "disable", "0"}
    return "deb" in fields.get("types", "").split() and fields.get("enabled", "yes").lower() not in off


def _source(fields: dict[str, str]) -> AptSource:
    uris, suites, components = (tuple(fields.get(name, "").split()) for name in ("uris", "suites", "components"))
    return AptSource(uris, suites, components, tuple(pair for pair in fields.items() if pair[0] not in _SPECIFIC))


def _retargeted(source: AptSource, release: str) -> AptSource:
    matches = (_SUITE.fullmatch(suite) for suite in source.suites)
    parts = [(match["part"] or "").replace("/updates", "-security") for match in matches if match]
    return AptSource(
        tuple(uri for uri in source.uris if not uri.startswith("cdrom:")),
        tuple(dict.fromkeys(release + part for part in parts)),
        ("main",),
        source.options,
    )


def _stanza(source: AptSource) -> str:
    fields = [
        ("Types", "deb"),
        ("URIs", " ".join(source.uris)),
        ("Suites", " ".join(source.suites)),
        ("Components", " ".join(source.components)),
        *((name.title(), value) for name, value in source.options),
    ]
    return "\n".join(f"{name}: {value}" for name, value in fields)

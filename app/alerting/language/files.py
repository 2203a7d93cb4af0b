"""Reading of rule files: turns a folder of *.yml into a checked rule set, or reports every problem at once."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import msgspec

from app.alerting.language.channels import ChannelCheck
from app.alerting.language.demo_rules import DEMO_RULES, DEMO_VARIABLE, NAMED_ONLY
from app.alerting.language.grammar import file_kind
from app.alerting.language.names import Names
from app.alerting.language.reader import EVERY_CHANNEL, RuleReader
from app.alerting.rules.channel_secrets import missing_secrets, references
from app.alerting.rules.model import FieldValue, Override, Rule, RuleSet, Terms, Watchdog
from app.clock import MINUTE_US
from app.hints import shown
from app.notify.channels import ChannelConfigError, parse_config
from app.notify.transport import Endpoints
from app.settings import Settings
from app.yaml_files.kinds import UNFIT, Kind, read_logged
from app.yaml_files.mappings import Given
from app.yaml_files.nodes import Extent, ScalarNode, compose
from app.yaml_files.problems import FileErrors, Place, ProblemLog
from app.yaml_files.texts import fault_of, read_text

#: Largest number of characters of all files of a folder together.
_LARGEST_FOLDER = 10_000_000
#: Each rule without `notify:` holds the names of all channels.
_MOST_CHANNELS = 200


def load_checked(path: Path, settings: Settings) -> RuleSet:
    """Read a folder of rules, or one file, and check channels and secrets too, so that the rules can run.

    With CHANNELS_DIR, channels come from that folder; a path in it is checked without rules. Raise FileErrors with
    every problem of every file.
    """
    endpoints = Endpoints(settings.slack_webhook_prefix, settings.telegram_api_base)
    extra = DEMO_RULES if DEMO_VARIABLE in settings.channel_variables else {}
    return load_rules(path, settings.channel_variables, _channel_check(endpoints), extra, settings.channels_dir)


def load_unsent(path: Path, channels_dir: Path | None = None) -> RuleSet:
    """Read rules for a use that sends nothing, so that the secrets of channels may be missing; raise FileErrors."""
    return load_rules(path, _EverySecret(), channels_dir=channels_dir)


def load_rules(
    path: Path,
    environ: Mapping[str, str],
    channel_check: ChannelCheck | None = None,
    extra: Mapping[str, str] = MappingProxyType({}),
    channels_dir: Path | None = None,
) -> RuleSet:
    """Read a folder's *.yml, or one file, and `extra`, texts by name; the secrets of channels must be in `environ`.

    With `channels_dir`, only the files there may hold channels, and they hold nothing else. Raise FileErrors with every
    problem of every file, also for an empty, missing or unreadable folder.
    """
    log = ProblemLog()
    if channels_dir is None:
        return _read_rule_set({**_read_texts(path, log), **extra}, environ, channel_check, log)
    is_channel_path = path.absolute().is_relative_to(channels_dir.absolute())
    texts = {} if is_channel_path else _read_texts(path, log, is_closed=True)
    channel_texts = _read_texts(channels_dir, log, "folder of channels")
    return _read_rule_set(texts, environ, channel_check, log, {**channel_texts, **extra})


def parse_rules(
    texts: Mapping[str, str],
    environ: Mapping[str, str],
    channel_check: ChannelCheck | None = None,
) -> RuleSet:
    """Read rule files from their texts, given by file name; raise FileErrors with every problem."""
    return _read_rule_set(texts, environ, channel_check, ProblemLog())


def _channel_check(endpoints: Endpoints) -> ChannelCheck:
    def check(type_name: str, values: Mapping[str, FieldValue]) -> list[tuple[str | None, str]]:
        try:
            parse_config(type_name, values, endpoints)
        except ChannelConfigError as error:
            return [(problem.field, problem.message) for problem in error.problems]
        return []

    return check


class _EverySecret(Mapping[str, str]):
    """An environment in which every variable is set; its value is its own name."""

    def __getitem__(self, name: str) -> str:
        return name

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _read_rule_set(
    texts: Mapping[str, str],
    environ: Mapping[str, str],
    channel_check: ChannelCheck | None,
    log: ProblemLog,
    channel_texts: Mapping[str, str] | None = None,
) -> RuleSet:
    """Turn texts into a rule set; with `channel_texts`, channels are in these alone, and rules are not."""
    all_readable = not log.problems
    with_rules, with_channels = _read_files(texts, channel_texts, log)
    names = Names(log)
    reader = RuleReader(log, names)
    channels = tuple(
        channel for file in with_channels for channel in reader.read_channels(file, environ, channel_check)
    )
    if len(channels) > _MOST_CHANNELS:
        log.add(with_channels[-1].place, f"there are {len(channels)} channels by here; at most {_MOST_CHANNELS}")
    rules = [rule for file in with_rules for rule in reader.read_rules(file)]
    # A name that looks unknown may be defined in a part that could not be read, so names are checked only when
    # everything was read.
    count = len(texts) + len(texts if channel_texts is None else channel_texts)
    files = (*with_rules, *with_channels)
    if all_readable and not log.lacks_entry and len(files) == count and all(map(_sections_were_read, files)):
        names.check()
    watchdog = _read_watchdog(files, environ, log)
    if log.problems:
        raise FileErrors(log.problems)
    every_channel = tuple(channel.name for channel in channels if channel.name not in NAMED_ONLY)
    return RuleSet(tuple(_with_channels(rule, every_channel) for rule in rules), channels, watchdog)


def _read_watchdog(files: Iterable[Given], environ: Mapping[str, str], log: ProblemLog) -> Watchdog | None:
    """Return the watchdog of the files, of which one may have one."""
    found: list[Given] = []
    for file in files:
        given: Given | None = file.get("watchdog")
        if given is not None and given not in found:
            found.append(given)
    for extra in found[1:]:
        log.add(extra.place, f'there is a "watchdog" at {found[0].place} already; keep one')
    if not found or "url" not in found[0].values:
        return None
    url = found[0].values["url"]
    for name in missing_secrets({"url": url}, environ):
        log.add(found[0].places["url"], f'"url": the environment variable {name} is not set, or empty')
    if not references(url) and not url.startswith(("https://", "http://")):
        log.add(found[0].places["url"], f'"url": {shown(url)} is not an address that begins with https:// or http://')
    return Watchdog(url, found[0].get("every", MINUTE_US))


def _read_files(
    texts: Mapping[str, str], channel_texts: Mapping[str, str] | None, log: ProblemLog
) -> tuple[list[Given], list[Given]]:
    """Return the files that can be read: those that may hold rules, and those that may hold channels."""
    kind, extent = file_kind(), Extent()

    def read(given: Mapping[str, str]) -> list[Given]:
        files = (_read_file(kind, text, name, extent, log) for name, text in sorted(given.items()))
        return [file for file in files if file is not None]

    with_rules = read(texts)
    if channel_texts is None:
        return with_rules, with_rules
    with_channels = read(channel_texts)
    moved = "with CHANNELS_DIR, channels are in that folder alone; move them there"
    _refuse_sections(with_rules, ("channels",), moved, log)
    moved = "CHANNELS_DIR is for channels alone; move this to RULES_DIR"
    _refuse_sections(with_channels, ("rules", "defaults"), moved, log)
    return with_rules, with_channels


def _refuse_sections(files: Iterable[Given], sections: Iterable[str], reason: str, log: ProblemLog) -> None:
    for file in files:
        for section in sections:
            if section in file.places:
                log.add(file.places[section], f'"{section}": {reason}')


def _read_file(kind: Kind, text: str, name: str, extent: Extent, log: ProblemLog) -> Given | None:
    # A file that is too large must not hide the problems of those after it.
    with_this = msgspec.structs.replace(extent)
    try:
        node = compose(text, name, with_this)
        extent.values, extent.characters = with_this.values, with_this.characters
    except FileErrors as errors:
        log.problems.extend(errors.problems)
        return None
    if isinstance(node, ScalarNode) and node.meaning == "nothing":
        log.add(node.place, 'the file is empty; a rule file begins with "version: 1"')
        return None
    file: Given = read_logged(kind, node, "a rule file", log)
    return None if file is UNFIT else file


def _sections_were_read(file: Given) -> bool:
    return all(section in file.values for section in ("rules", "channels") if section in file.places)


def _with_channels(rule: Rule, every_channel: tuple[str, ...]) -> Rule:
    """Return the rule with EVERY_CHANNEL, in its terms and overrides, replaced by the names of all channels."""

    def replaced(terms: Terms) -> Terms:
        return msgspec.structs.replace(terms, notify=every_channel) if terms.notify == EVERY_CHANNEL else terms

    overrides = tuple(Override(override.sensors, replaced(override.terms)) for override in rule.overrides)
    return msgspec.structs.replace(rule, terms=replaced(rule.terms), overrides=overrides)


def _read_texts(path: Path, log: ProblemLog, kind: str = "folder of rules", is_closed: bool = False) -> dict[str, str]:
    """Return the text of each file by its path; files that cannot be read are logged and left out.

    In a closed folder, links that lead out of it are not followed: people who edit rules must not see other files.
    """
    texts: dict[str, str] = {}
    for file in _list_files(path, kind, log):
        if is_closed and path.is_dir() and not file.resolve().is_relative_to(path.resolve()):
            log.add(Place(str(file)), "this link leads out of the folder, which is not allowed with CHANNELS_DIR")
        elif (text := read_text(file, log)) is not None:
            texts[str(file)] = text
        if sum(map(len, texts.values())) > _LARGEST_FOLDER:
            log.add(Place(str(path)), f"the files in this folder have more than {_LARGEST_FOLDER:,} characters")
            return {}
    return texts


def _list_files(folder: Path, kind: str, log: ProblemLog) -> list[Path]:
    """List a folder's *.yml; for a file, return only that file."""
    place = Place(str(folder))
    try:
        if folder.is_file():
            return [folder]
        visible = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except (OSError, ValueError) as error:
        log.add(place, f"this {kind} cannot be read: {fault_of(error)}")
        return []
    for entry in visible:
        if entry.suffix == ".yaml":
            log.add(Place(str(entry)), f"rules are read from *.yml only; rename it to {entry.stem}.yml")
    files = [entry for entry in visible if entry.suffix == ".yml"]
    if not files:
        log.add(place, f"there is no *.yml in this {kind}; is it mounted?")
    return files

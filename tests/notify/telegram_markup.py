"""Parser for the Bot API's markup, as strict as the original, that returns the text a reader sees."""

import html
import re
from collections.abc import Callable

_MARKDOWN_ESCAPED = "_*`["
_RESERVED_V2 = "_*[]()~`>#+-=|{}.!"
_MARKS_V2 = ("```", "||", "__", "![", "*", "_", "~", "`", "[")
_TAGS = frozenset(
    ("a", "b", "blockquote", "code", "del", "em", "i", "ins", "pre", "s", "span", "strike", "strong", "u")
)
_ATTRIBUTES = re.compile(r"""(\s+[\w-]+=("[^"]*"|'[^']*'|[\w.-]+))*\s*""")
_TAG = re.compile(r"<(/?)([^\s>]*)([^>]*)>")
_HTML_ENTITY = re.compile(r"&(#x?[0-9a-fA-F]+|lt|gt|amp|quot);")


class EntityError(Exception):
    """The markup cannot be parsed; the message is what the Bot API writes after "can't parse entities"."""


def read_markup(text: str, parse_mode: str) -> str:
    """Return the visible part of a text in a parse mode of the Bot API ("" for none).

    Raise EntityError if the markup is broken, LookupError for an unknown mode.
    """
    readers: dict[str, Callable[[str], str]] = {
        "": str,
        "none": str,
        "markdown": _read_markdown,
        "markdownv2": _read_markdown_v2,
        "html": _read_html,
    }
    return readers[parse_mode.lower()](text)


def _read_markdown(text: str) -> str:
    """Return the visible part of the old Markdown, which has no nesting and no escapes within an entity."""
    seen: list[str] = []
    at = 0
    while at < len(text):
        char = text[at]
        if char == "\\" and text[at + 1 : at + 2] and text[at + 1] in _MARKDOWN_ESCAPED:
            seen.append(text[at + 1])
            at += 2
        elif char in _MARKDOWN_ESCAPED:
            inner, at = _read_markdown_entity(text, at)
            seen.append(inner)
        else:
            seen.append(char)
            at += 1
    return "".join(seen)


def _read_markdown_entity(text: str, at: int) -> tuple[str, int]:
    """Return the text of the entity that starts at `at`, and the position after it."""
    mark = "```" if text.startswith("```", at) else text[at]
    closing = "]" if mark == "[" else mark
    end = text.find(closing, at + len(mark))
    if end < 0:
        raise EntityError(f"Can't find end of the entity starting at byte offset {_byte_offset(text, at)}")
    after = end + len(closing)
    if mark == "[" and text.startswith("(", after):
        address_end = text.find(")", after)
        after = len(text) if address_end < 0 else address_end + 1
    return text[at + len(mark) : end], after


def _read_markdown_v2(text: str) -> str:
    """Return the visible part of MarkdownV2: entities nest, and every reserved character must be escaped."""
    seen: list[str] = []
    open_marks: list[tuple[str, int]] = []
    at = 0
    while at < len(text):
        char = text[at]
        if char == "\\" and at + 1 < len(text) and ord(text[at + 1]) <= 126:
            seen.append(text[at + 1])
            at += 2
        elif char not in _reserved_now(open_marks) or (char == ">" and (at == 0 or text[at - 1] == "\n")):
            seen.append(char)
            at += 1
        else:
            at = _step_mark(text, at, open_marks)
    if open_marks:
        mark, start = open_marks[-1]
        raise EntityError(f"Can't find end of {mark!r} entity at byte offset {_byte_offset(text, start)}")
    return "".join(seen)


def _reserved_now(open_marks: list[tuple[str, int]]) -> str:
    in_code = bool(open_marks) and open_marks[-1][0] in ("`", "```")
    return "`" if in_code else _RESERVED_V2


def _step_mark(text: str, at: int, open_marks: list[tuple[str, int]]) -> int:
    """Open or close an entity at a reserved character, and return the position after the mark."""
    innermost = open_marks[-1][0] if open_marks else ""
    if innermost in ("[", "![") and text[at] == "]":
        open_marks.pop()
        return _skip_address(text, at + 1)
    if innermost == "`":
        open_marks.pop()
        return at + 1
    mark = next((mark for mark in _MARKS_V2 if text.startswith(mark, at)), None)
    if mark is None:
        raise EntityError(f"Character '{text[at]}' is reserved and must be escaped with the preceding '\\'")
    if mark == innermost:
        open_marks.pop()
    else:
        open_marks.append((mark, at))
    return at + len(mark)


def _skip_address(text: str, at: int) -> int:
    if not text.startswith("(", at):
        return at
    end = re.compile(r"(?:\\.|[^\\)])*\)", re.DOTALL).match(text, at + 1)
    if end is None:
        raise EntityError(f"Can't find end of a URL at byte offset {_byte_offset(text, at + 1)}")
    return end.end()


def _read_html(text: str) -> str:
    seen: list[str] = []
    open_tags: list[str] = []
    at = 0
    while (start := text.find("<", at)) >= 0:
        tag = _TAG.match(text, start)
        if tag is None:
            raise EntityError(f"Unclosed start tag at byte offset {_byte_offset(text, start)}")
        seen.append(_unescape(text[at:start]))
        _step_tag(tag, open_tags, _byte_offset(text, start))
        at = tag.end()
    if open_tags:
        raise EntityError(f'Can\'t find end tag corresponding to start tag "{open_tags[-1]}"')
    return "".join(seen) + _unescape(text[at:])


def _step_tag(tag: re.Match[str], open_tags: list[str], offset: int) -> None:
    closing, name, attributes = tag[1], tag[2].lower(), tag[3]
    if not closing:
        if name not in _TAGS and not name.startswith("tg-"):
            raise EntityError(f'Unsupported start tag "{name}" at byte offset {offset}')
        if _ATTRIBUTES.fullmatch(attributes) is None:
            raise EntityError(f'Wrong attributes in the tag "{name}" at byte offset {offset}')
        open_tags.append(name)
    elif not open_tags:
        raise EntityError(f"Unexpected end tag at byte offset {offset}")
    elif (expected := open_tags.pop()) != name:
        raise EntityError(f'Unmatched end tag at byte offset {offset}, expected "</{expected}>", found "</{name}>"')


def _unescape(text: str) -> str:
    """Decode the entities that the Bot API supports; others stay as they are."""
    return _HTML_ENTITY.sub(lambda entity: html.unescape(entity[0]), text)


def _byte_offset(text: str, at: int) -> int:
    return len(text[:at].encode())

import pytest

from tests.notify.telegram_markup import EntityError, read_markup


@pytest.mark.parametrize(
    ("mode", "text", "seen"),
    [
        ("", "*a_b* <b>", "*a_b* <b>"),
        ("Markdown", "*a_b* `c*d` _e_", "a_b c*d e"),
        ("Markdown", "a\\_b \\x", "a_b \\x"),
        ("Markdown", "[here](https://a.example/x_y) [bare]", "here bare"),
        ("Markdown", "*a*\\**b*", "a*b"),
        ("Markdown", "```\nx_y\n```", "\nx_y\n"),
        ("MarkdownV2", "*a _b_ c* __d__ ~e~ ||f||", "a b c d e f"),
        ("MarkdownV2", "1\\.5 \\- 2 `a.b`", "1.5 - 2 a.b"),
        ("MarkdownV2", "[here](https://a.example/\\)) x", "here x"),
        ("MarkdownV2", ">quoted", ">quoted"),
        ("HTML", '<b>a</b> <a href="https://a.example/?x=1&amp;y=2">b</a> &lt;c&gt; &copy;', "a b <c> &copy;"),
    ],
)
def test_read_markup_returns_the_visible_text_when_the_markup_is_balanced(mode: str, text: str, seen: str) -> None:
    assert read_markup(text, mode) == seen


@pytest.mark.parametrize(
    ("mode", "text", "message"),
    [
        ("Markdown", "disk_usage", "Can't find end of the entity starting at byte offset 4"),
        ("Markdown", "é `x", "Can't find end of the entity starting at byte offset 3"),
        ("Markdown", "[open", "Can't find end of the entity starting at byte offset 0"),
        ("MarkdownV2", "1.5", "Character '.' is reserved and must be escaped with the preceding '\\'"),
        ("MarkdownV2", "*a _b* c_", "Can't find end of '_' entity at byte offset 8"),
        ("MarkdownV2", "[a](b", "Can't find end of a URL at byte offset 4"),
        ("HTML", "a < b", "Unclosed start tag at byte offset 2"),
        ("HTML", "a <x> b", 'Unsupported start tag "x" at byte offset 2'),
        ("HTML", "<b>a", 'Can\'t find end tag corresponding to start tag "b"'),
        ("HTML", "a</b>", "Unexpected end tag at byte offset 1"),
        ("HTML", "<b><i>a</b></i>", 'Unmatched end tag at byte offset 7, expected "</i>", found "</b>"'),
        ("HTML", "<a href=https://a>b</a>", 'Wrong attributes in the tag "a" at byte offset 0'),
    ],
)
def test_read_markup_raises_the_bot_api_error_when_the_markup_is_broken(mode: str, text: str, message: str) -> None:
    with pytest.raises(EntityError) as caught:
        read_markup(text, mode)
    assert str(caught.value) == message


def test_read_markup_raises_when_the_mode_is_unknown() -> None:
    with pytest.raises(LookupError):
        read_markup("a", "bbcode")

from pathlib import Path

from app.db.embedded.apt_sources import AptSource, parse_deb822, parse_one_line, read_sources, render, retarget

DEB822 = """\
# Written by the installer
Types: deb deb-src
URIs: http://archive.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
# a comment inside
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main

Types: deb-src
URIs: http://source.example/debian
Suites: bookworm
Components: main
"""

KEY_BLOCK = """\
Types: deb
URIs: http://archive.example/debian
Suites: bookworm
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDMEY865UxYJKwYBBAHaRw8BAQdAd7Z0srwuhlB6JKFkcf4HU4SSS
 -----END PGP PUBLIC KEY BLOCK-----
"""


def _source(*suites: str, uri: str = "http://archive.example/debian", component: str = "main") -> AptSource:
    return AptSource((uri,), suites, (component,))


def test_deb822_returns_enabled_binary_archives_when_there_are_others() -> None:
    assert parse_deb822(DEB822) == [
        AptSource(
            ("http://archive.example/debian",),
            ("bookworm", "bookworm-updates"),
            ("main", "contrib"),
            (("signed-by", "/usr/share/keyrings/debian-archive-keyring.gpg"),),
        )
    ]


def test_deb822_keeps_a_key_block_when_rendered_again() -> None:
    assert render(parse_deb822(KEY_BLOCK)) == (
        "Types: deb\n"
        "URIs: http://archive.example/debian\n"
        "Suites: bookworm\n"
        "Components: main\n"
        "Signed-By: \n"
        " -----BEGIN PGP PUBLIC KEY BLOCK-----\n"
        " .\n"
        " mDMEY865UxYJKwYBBAHaRw8BAQdAd7Z0srwuhlB6JKFkcf4HU4SSS\n"
        " -----END PGP PUBLIC KEY BLOCK-----\n"
    )


def test_one_line_returns_binary_archives_when_there_are_comments_and_sources() -> None:
    text = (
        "# deb http://commented.example/debian bookworm main\n"
        "deb http://archive.example/debian bookworm main contrib # the archive\n"
        "deb-src http://archive.example/debian bookworm main\n"
        "\n"
        "deb cdrom:[Debian GNU/Linux 12.0.0 _Bookworm_ - amd64]/ bookworm main\n"
    )
    assert parse_one_line(text)[0] == AptSource(("http://archive.example/debian",), ("bookworm",), ("main", "contrib"))
    assert retarget(parse_one_line(text), "trixie") == [_source("trixie")]


def test_one_line_options_become_fields_when_rendered() -> None:
    text = "deb [arch=amd64,arm64 signed-by=/k.gpg lang+=de] http://archive.example/debian bookworm main\n"
    assert render(parse_one_line(text)) == (
        "Types: deb\n"
        "URIs: http://archive.example/debian\n"
        "Suites: bookworm\n"
        "Components: main\n"
        "Architectures: amd64 arm64\n"
        "Signed-By: /k.gpg\n"
    )


def test_retarget_names_the_release_when_the_host_has_an_older_one() -> None:
    sources = [
        _source("bullseye", "bullseye-updates", "bullseye-backports"),
        _source("bullseye-security", uri="http://archive.example/debian-security"),
        _source("buster/updates", uri="http://old.example/debian-security"),
    ]
    assert retarget(sources, "trixie") == [
        _source("trixie", "trixie-updates"),
        _source("trixie-security", uri="http://archive.example/debian-security"),
        _source("trixie-security", uri="http://old.example/debian-security"),
    ]


def test_retarget_drops_archives_when_they_are_not_debian() -> None:
    sources = [
        _source("noble", uri="http://archive.example/ubuntu"),
        _source("bookworm-pgdg", uri="http://postgresql.example/apt"),
        _source("bookworm", uri="http://docker.example/linux/debian", component="stable"),
        _source("nodistro", uri="http://node.example/node_20.x"),
        AptSource(("http://flat.example/",), ("./",), ()),
    ]
    assert retarget(sources, "trixie") == []


def test_retarget_returns_one_archive_when_two_releases_name_it() -> None:
    assert retarget([_source("bookworm"), _source("trixie")], "trixie") == [_source("trixie")]


def test_read_sources_reads_both_formats_when_both_exist(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text("deb http://one.example/debian bookworm main\n")
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (parts / "two.list").write_text("deb http://two.example/debian bookworm main\n")
    (parts / "three.sources").write_text(DEB822)
    (parts / "four.sources.disabled").write_text(DEB822)
    assert [source.uris[0] for source in read_sources(tmp_path)] == [
        "http://one.example/debian",
        "http://two.example/debian",
        "http://archive.example/debian",
    ]


def test_read_sources_returns_nothing_when_the_machine_has_no_apt(tmp_path: Path) -> None:
    assert read_sources(tmp_path / "missing") == []

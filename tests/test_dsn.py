"""Addresses of PostgreSQL with several hosts."""

import pytest

from app.dsn import split_hosts


@pytest.mark.parametrize(
    ("dsn", "hosts"),
    [
        ("postgresql://u:p@a:1/db?x=1", ["postgresql://u:p@a:1/db?x=1"]),
        (
            "postgresql://u:p%2F%40@a:1,b:2,c/db?target_session_attrs=read-write",
            [
                "postgresql://u:p%2F%40@a:1/db?target_session_attrs=read-write",
                "postgresql://u:p%2F%40@b:2/db?target_session_attrs=read-write",
                "postgresql://u:p%2F%40@c/db?target_session_attrs=read-write",
            ],
        ),
        ("postgres://[::1]:5432,localhost/db", ["postgres://[::1]:5432/db", "postgres://localhost/db"]),
        (
            "postgresql:///db?host=/run/a,/run/b&port=1,2",
            ["postgresql:///db?host=%2Frun%2Fa&port=1", "postgresql:///db?host=%2Frun%2Fb&port=2"],
        ),
        (
            "postgresql:///db?host=a,b&port=7",
            ["postgresql:///db?host=a&port=7", "postgresql:///db?host=b&port=7"],
        ),
        ("postgresql:///db", ["postgresql:///db"]),
    ],
)
def test_address_is_split_into_one_for_each_host(dsn: str, hosts: list[str]) -> None:
    assert split_hosts(dsn) == hosts


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://u:p/w@a:1/db",
        "postgresql://u:p@w@a:1/db",
        "postgresql://u:p@a:1,b:x/db",
        "postgresql://u:p@a:1,,b/db",
        "postgresql://u:p@a:99999/db",
        "postgresql:///db?host=a,b,c&port=1,2",
    ],
)
def test_address_is_refused_without_being_quoted_when_it_cannot_be_read(dsn: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as refusal:
        split_hosts(dsn)
    assert "p/w" not in str(refusal.value)
    assert "p@w" not in str(refusal.value)

"""Credentials of the embedded database: stored once, and refused when they are damaged."""

from pathlib import Path

import pytest

from app.db.embedded.cluster import Cluster, Credentials
from app.db.embedded.programs import EmbeddedServerError


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path, None)


def test_credentials_are_read_as_they_were_stored(cluster: Cluster) -> None:
    cluster.store_credentials(Credentials("p/w", 5433))
    assert cluster.credentials() == Credentials("p/w", 5433)
    assert (cluster.folder / "credentials.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("data", [None, b"", b"{}", b'{"password": 1}', b'{"password": "\xff"}'])
def test_missing_or_damaged_credentials_are_refused_with_what_to_do(cluster: Cluster, data: bytes | None) -> None:
    if data is not None:
        (cluster.folder / "credentials.json").write_bytes(data)
    with pytest.raises(EmbeddedServerError, match=r"credentials\.json is missing or damaged.* Put the file back"):
        cluster.credentials()


def test_an_empty_folder_has_no_version_of_postgresql(cluster: Cluster) -> None:
    assert cluster.major() is None

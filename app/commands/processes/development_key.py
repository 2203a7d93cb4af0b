"""The development key: an API key that `tidegauge up` makes when nobody has made one, kept in DATA_DIR."""

from pathlib import Path
from typing import Final

import msgspec

from app.auth.keys import DEVELOPMENT_LABEL, SCOPES, hash_key, make_key, store_key
from app.auth.sql import SQL
from app.db.pool import Pool, open_pool
from app.errors import ConflictError
from app.settings import Settings

_FILE: Final = "development_keys.json"


class _KeyFile(msgspec.Struct, frozen=True):
    api_key: str


class Keys(msgspec.Struct, frozen=True):
    """The labels of the live keys of a database, the variables with a key, and the development key.

    `development` is None unless the plain key is in DATA_DIR and works in this database.
    """

    labels: list[str]
    development: str | None = None
    variables: list[str] = []

    @property
    def is_alone(self) -> bool:
        """Whether the development key is the only key, so that people need to be shown it."""
        return self.development is not None and self.labels == [DEVELOPMENT_LABEL] and not self.variables

    @property
    def is_unknown(self) -> bool:
        """Whether there is a development key that is not the one in DATA_DIR."""
        return self.development is None and DEVELOPMENT_LABEL in self.labels

    @property
    def is_empty(self) -> bool:
        """Whether there is no key at all, so that nobody can use the server."""
        return not self.labels and not self.variables


async def open_keys(settings: Settings) -> Keys:
    """Return the keys that exist; make the development key if no key was ever stored and none is in the settings.

    A key that is stored, live or revoked, is never changed. The key in DATA_DIR serves every database that is used with
    that folder. Needs a migrated database.
    """
    pool = await open_pool(str(settings.database_url), min_size=1, max_size=1)
    try:
        variables = list_variables(settings)
        if not variables and not await pool.fetch(SQL["list_keys"]):
            await _store_development_key(pool, settings.data_dir)
        labels = [row["label"] for row in await pool.fetch(SQL["list_keys"]) if row["revoked_at"] is None]
        return Keys(labels, await _find_known(pool, settings.data_dir), variables)
    finally:
        await pool.close()


def list_variables(settings: Settings) -> list[str]:
    """Return the names of the variables that are set to a key."""
    return [name for name in ("API_KEY", "API_KEY_WS") if getattr(settings, name.lower())]


def find_development_key(data_dir: Path) -> str | None:
    """Return the development key in DATA_DIR, which other commands may use; None when there is none.

    Raise OSError for a file that exists and cannot be read.
    """
    try:
        return msgspec.json.decode((data_dir / _FILE).read_bytes(), type=_KeyFile).api_key or None
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError, UnicodeDecodeError):
        return None


async def _store_development_key(pool: Pool, data_dir: Path) -> None:
    """Store the key in DATA_DIR, made if there is none, unless another process has just stored a development key."""
    key = find_development_key(data_dir) or _write_new(data_dir)
    try:
        await store_key(pool, key, DEVELOPMENT_LABEL, frozenset(SCOPES), {})
    except ConflictError:
        return


async def _find_known(pool: Pool, data_dir: Path) -> str | None:
    """Return the key in DATA_DIR if it is the live development key of the database."""
    key = find_development_key(data_dir)
    row = await pool.fetchrow(SQL["find_live_key"], hash_key(key)) if key else None
    return key if row is not None and row["label"] == DEVELOPMENT_LABEL else None


def _write_new(data_dir: Path) -> str:
    """Write a new key to DATA_DIR, readable by its owner alone, and return it.

    A file without a key is overwritten. When another process has just written a key, return that key.
    """
    key = make_key()
    path = data_dir / _FILE
    data_dir.mkdir(parents=True, exist_ok=True)
    try:
        path.touch(mode=0o600, exist_ok=False)
    except FileExistsError:
        other = find_development_key(data_dir)
        if other is not None:
            return other
        path.chmod(0o600)
    path.write_bytes(msgspec.json.encode(_KeyFile(key)))
    return key

"""The development key: an API key that `tidegauge up` makes when nobody has made one, kept in DATA_DIR."""

from pathlib import Path
from typing import Final

import msgspec

from app.auth.keys import SCOPES, hash_key, make_key, store_key
from app.auth.sql import SQL
from app.db.pool import Pool, open_pool
from app.settings import Settings

#: Under this label `tidegauge key revoke` ends it.
LABEL: Final = "development"
_FILE: Final = "development_keys.json"


class _KeyFile(msgspec.Struct, frozen=True):
    api_key: str


class Keys(msgspec.Struct, frozen=True):
    """The live keys of a database by label, and the development key if it is one of them and known here."""

    labels: list[str]
    development: str | None = None

    @property
    def is_alone(self) -> bool:
        """Whether the development key is the only key, so that people need to be shown it."""
        return self.development is not None and self.labels == [LABEL]


async def open_keys(settings: Settings) -> Keys:
    """Return the stored keys; make the development key if there is no key at all, neither stored nor in the settings.

    Once made, it works until it is revoked, whatever other keys are created. Needs a migrated database.
    """
    pool = await open_pool(str(settings.database_url), min_size=1, max_size=1)
    try:
        revoked_at = {row["label"]: row["revoked_at"] for row in await pool.fetch(SQL["list_keys"])}
        labels = [label for label, revoked in revoked_at.items() if revoked is None]
        if LABEL in revoked_at:
            is_only = labels == [LABEL] and not _is_in_environment(settings)
            key = await _find_known(pool, settings.data_dir, is_only) if LABEL in labels else None
            return Keys(labels, key)
        if _is_in_environment(settings):
            return Keys(labels)
        key = find_development_key(settings.data_dir)
        if key is None and labels:
            return Keys(labels)
        key = key or _write_new(settings.data_dir)
        await store_key(pool, key, LABEL, frozenset(SCOPES), {})
        return Keys([*labels, LABEL], key)
    finally:
        await pool.close()


def find_development_key(data_dir: Path) -> str | None:
    """Return the development key in DATA_DIR, which other commands may use; None when there is none."""
    try:
        return msgspec.json.decode((data_dir / _FILE).read_bytes(), type=_KeyFile).api_key
    except (OSError, msgspec.DecodeError):
        return None


async def _find_known(pool: Pool, data_dir: Path, is_only: bool) -> str | None:
    """Return the key in DATA_DIR if it is the stored one; replace it if its file is lost and no other key exists."""
    key = find_development_key(data_dir)
    if key is not None and await pool.fetchval(SQL["find_live_key"], hash_key(key)) is not None:
        return key
    if not is_only:
        return None
    key = _write_new(data_dir)
    await pool.execute(SQL["replace_key"], LABEL, hash_key(key))
    return key


def _is_in_environment(settings: Settings) -> bool:
    return bool(settings.api_key or settings.api_key_ws)


def _write_new(data_dir: Path) -> str:
    """Make a key and write it to DATA_DIR, readable by its owner alone."""
    key = make_key()
    path = data_dir / _FILE
    data_dir.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(msgspec.json.encode(_KeyFile(key)))
    return key

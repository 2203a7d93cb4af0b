"""Development keys: API keys that `tidegauge up` creates when there are none, kept in DATA_DIR across restarts."""

from pathlib import Path

import asyncpg
import msgspec

from app.auth.keys import make_key
from app.db.pool import open_pool
from app.settings import Settings

_KEYS_FILE = "development_keys.json"


class DevelopmentKeys(msgspec.Struct, frozen=True):
    """The two keys that `tidegauge up` creates, named after the settings that they replace."""

    api_key: str
    api_key_ws: str


async def with_keys(settings: Settings) -> tuple[Settings, DevelopmentKeys | None]:
    """Return settings with development keys, and these keys, when neither the settings nor the database has a key.

    Otherwise return the settings as given, and None.
    """
    if settings.api_key or settings.api_key_ws or await _has_stored_keys(str(settings.database_url)):
        return settings, None
    keys = _development_keys(settings.data_dir / _KEYS_FILE)
    return msgspec.structs.replace(settings, api_key=keys.api_key, api_key_ws=keys.api_key_ws), keys


async def _has_stored_keys(dsn: str) -> bool:
    pool = await open_pool(dsn, min_size=1, max_size=1)
    try:
        return bool(await pool.fetchval("SELECT EXISTS (SELECT FROM api_key WHERE revoked_at IS NULL)"))
    except asyncpg.UndefinedTableError:
        return False
    finally:
        await pool.close()


def find_development_key(data_dir: Path) -> str | None:
    """Return the development key in DATA_DIR, which other commands may use; None when there is none."""
    keys = _read_keys(data_dir / _KEYS_FILE)
    return keys.api_key if keys else None


def _read_keys(path: Path) -> DevelopmentKeys | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=DevelopmentKeys)
    except (OSError, msgspec.DecodeError):
        return None


def _development_keys(path: Path) -> DevelopmentKeys:
    keys = _read_keys(path)
    if keys is None:
        key = make_key()
        keys = DevelopmentKeys(key, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_bytes(msgspec.json.encode(keys))
    return keys

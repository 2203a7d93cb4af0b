"""Fixtures: a Community server for each module, and a connection with a schema of its own for each test."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from app.db.pool import Connection
from tests.community.wasm import community_dsn

__all__ = ["community_dsn"]


@pytest.fixture
async def connection(community_dsn: str) -> AsyncIterator[Connection]:
    """A connection with an empty schema first on the search path; the schema is dropped after the test."""
    session = await asyncpg.connect(community_dsn, server_settings={"search_path": "trial, public"})
    try:
        await session.execute("CREATE SCHEMA trial")
        yield session
        await session.execute("DROP SCHEMA trial CASCADE")
    finally:
        await session.close()

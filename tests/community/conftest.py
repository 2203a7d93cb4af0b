"""A Community server for each module here, and for each test a connection with a schema of its own."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from app.db.pool import Connection
from tests.community.wasm import community_dsn

__all__ = ["community_dsn"]


@pytest.fixture
async def connection(community_dsn: str) -> AsyncIterator[Connection]:
    """Connect with an empty schema first on the search path; the schema goes with the test."""
    session = await asyncpg.connect(community_dsn, server_settings={"search_path": "trial, public"})
    try:
        await session.execute("CREATE SCHEMA trial")
        yield session
        await session.execute("DROP SCHEMA trial CASCADE")
    finally:
        await session.close()

"""Idempotency-Key: a repeated request gets the first answer, at any time and from any process."""

import asyncio
import gzip
from collections import Counter
from datetime import timedelta

import msgspec

from app.auth.keys import create_key
from app.ingest.flush.idempotency import Answers, prune_answers
from app.settings import Settings
from tests.conftest import API_KEY, Database, Server, running_server
from tests.ingest.client import send

#: Without a time, so that a retry can be recognized only by its key.
UNTIMED = [{"sensor": "pi1", "values": {"t": 1, "h": None, "\0": 1}}]


async def test_answer_is_the_first_one_when_a_request_is_repeated(server: Server, database: Database) -> None:
    first = await send(server, UNTIMED, Idempotency_Key="a")
    assert (first.body["seq"], first.body["accepted"], first.body["rejected_count"]) == (1, 1, 2)
    assert [item["code"] for item in first.body["rejected"]] == ["value_not_a_number", "metric_invalid"]
    await send(server, [{"sensor": "pi2", "values": {"t": 1}}])
    for _ in range(2):
        assert await send(server, UNTIMED, Idempotency_Key="a") == first
    packed = gzip.compress(msgspec.json.encode(UNTIMED))
    assert await send(server, packed, Idempotency_Key="a", Content_Encoding="gzip") == first
    assert await _stored(database) == 2
    assert (await send(server, UNTIMED, Idempotency_Key="b")).body["seq"] == 3


async def test_answer_is_stored_when_nothing_was_new(server: Server) -> None:
    body = [{"sensor": "pi1", "time": _now_ms(server), "values": {"t": 1}}]
    await send(server, body)
    answers = [await send(server, body, Idempotency_Key="a") for _ in range(2)]
    assert answers[0] == answers[1]
    assert [answer.counts for answer in answers] == [
        {"seq": None, "accepted": 0, "duplicates": 1, "rejected": [], "rejected_count": 0}
    ] * 2


async def test_other_body_is_refused_when_the_key_was_used(server: Server, database: Database) -> None:
    await send(server, UNTIMED, Idempotency_Key="a")
    answer = await send(server, [{"sensor": "pi2", "values": {"t": 1}}], Idempotency_Key="a")
    assert (answer.status, answer.content_type) == (422, "application/problem+json")
    assert answer.body["detail"] == "Idempotency-Key 'a' was used for another body; use a new key for new readings"
    assert await _stored(database) == 1


async def test_answer_is_the_first_one_when_the_server_was_restarted(database: Database) -> None:
    settings = Settings(database_url=database.dsn, api_key=API_KEY)
    answers = []
    for _ in range(2):
        async with running_server(settings) as server:
            answers.append(await send(server, UNTIMED, Idempotency_Key="a"))
    assert answers[0] == answers[1]
    assert await _stored(database) == 1


async def test_answers_are_separate_when_two_api_keys_use_the_same_idempotency_key(
    server: Server, database: Database
) -> None:
    other = await create_key(database.pool, "other", frozenset({"ingest"}), {})
    await send(server, UNTIMED, Idempotency_Key="a")
    answer = await send(server, [{"sensor": "pi2", "values": {"t": 1}}], Idempotency_Key="a", X_API_Key=other)
    assert (answer.status, answer.body["accepted"]) == (200, 1)
    assert await _stored(database) == 2


async def test_requests_are_stored_once_with_one_answer_when_sent_at_once_to_two_servers(database: Database) -> None:
    settings = Settings(database_url=database.dsn, api_key=API_KEY)
    async with running_server(settings) as first, running_server(settings) as second:
        for key in ("a", "b", "c", "d", "e"):
            requests = [send(server, UNTIMED, Idempotency_Key=key) for server in (first, second) for _ in range(5)]
            answers = await asyncio.gather(*requests)
            assert [answer.status for answer in answers] == [200] * 10
            assert answers == [answers[0]] * 10
    assert await _stored(database) == 5


async def test_one_body_is_stored_when_several_are_sent_at_once_under_one_key(database: Database) -> None:
    settings = Settings(database_url=database.dsn, api_key=API_KEY)
    async with running_server(settings) as first, running_server(settings) as second:
        for key in ("a", "b", "c"):
            bodies = [[{"sensor": f"pi{number}", "values": {"t": number}}] for number in range(6)]
            requests = [
                send(server, body, Idempotency_Key=key)
                for body, server in zip(bodies, (first, second) * 3, strict=True)
            ]
            statuses = Counter(answer.status for answer in await asyncio.gather(*requests))
            assert statuses == {200: 1, 422: 5}
    assert await _stored(database) == 3


async def test_other_uploads_of_a_flush_are_stored_when_one_was_answered_elsewhere(
    server: Server, database: Database
) -> None:
    # Simulate another process that has stored its answer but not committed it yet.
    body = msgspec.json.encode(UNTIMED)
    async with database.pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "INSERT INTO idempotency (api_key, key, body_sha256, answer) VALUES ('API_KEY', 'a', sha256($1), $2)",
            body,
            {"accepted": 7, "duplicates": 0, "rejected": [], "rejected_count": 0},
        )
        requests = [
            asyncio.create_task(send(server, body, Idempotency_Key="a")),
            *(asyncio.create_task(send(server, [{"sensor": f"pi{n}", "values": {"t": 1}}])) for n in range(8)),
        ]
        async with asyncio.timeout(20):
            while not await database.pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                pass
    answers = await asyncio.gather(*requests)
    assert [answer.body["accepted"] for answer in answers] == [7, 1, 1, 1, 1, 1, 1, 1, 1]
    assert await _stored(database) == 8


async def test_key_is_refused_when_it_is_empty_too_long_or_cannot_be_printed(server: Server) -> None:
    for key in ("", "x" * 256, "caf\u00e9\u0080"):
        answer = await send(server, UNTIMED, Idempotency_Key=key)
        assert (answer.status, answer.body["detail"]) == (400, "Idempotency-Key must be 1 to 255 printable characters")


async def test_answers_are_deleted_when_they_are_a_day_old(server: Server, database: Database) -> None:
    for key, age in (("old", timedelta(hours=24, seconds=1)), ("young", timedelta(hours=23, minutes=59))):
        await send(server, UNTIMED, Idempotency_Key=key)
        await database.pool.execute("UPDATE idempotency SET created_at = now() - $2::interval WHERE key = $1", key, age)
    await prune_answers(database.pool)
    assert await database.pool.fetchval("SELECT array_agg(key) FROM idempotency") == ["young"]


async def test_requests_pass_one_by_one_and_the_lock_is_dropped_when_they_share_a_key() -> None:
    answers, inside, most = Answers(), 0, 0

    async def pass_through() -> None:
        nonlocal inside, most
        async with answers.one_at_a_time("API_KEY", "a"):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    async def pass_through_later(turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        await pass_through()

    await asyncio.gather(*(pass_through_later(turns) for turns in range(30)), *(pass_through() for _ in range(5)))
    assert most == 1
    assert answers._locks == {}


def _now_ms(server: Server) -> int:
    return server.services.ingest.clock() // 1_000


async def _stored(database: Database) -> int:
    count: int = await database.pool.fetchval("SELECT count(*) FROM reading")
    return count

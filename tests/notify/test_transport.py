import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import aiohttp
import pytest

from app.notify.transport import (
    ANSWER_LIMIT_BYTES,
    Answer,
    DeliveryError,
    PermanentError,
    Post,
    TransientError,
    UncertainError,
    UnknownAnswerError,
    fingerprint,
    open_session,
    refusal,
    send_post,
)
from tests.notify.unreachable_servers import closed_port_url, server_with_full_backlog
from tests.receivers import HANGS, RESETS_AFTER, RESETS_BEFORE, Fault, WebhookReceiver, answers

SECRET = "s3cret-part-of-the-path"


class UnknownHostResolver(aiohttp.abc.AbstractResolver):
    """A resolver that finds no host, so that no test asks a real name server."""

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[aiohttp.abc.ResolveResult]:
        raise OSError(socket.EAI_NONAME, f"no such name: {host}")

    async def close(self) -> None:
        pass


@asynccontextmanager
async def raw_server(answer: bytes) -> AsyncIterator[str]:
    """Serve the same bytes as the answer to every request, closing the connection after each."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/{SECRET}"


async def fail(session: aiohttp.ClientSession, url: str) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        await send_post(session, Post(url, b"{}"))
    return caught.value


async def test_send_post_returns_status_and_body_when_the_server_answers(
    session: aiohttp.ClientSession, webhook: WebhookReceiver
) -> None:
    webhook.fail_next(answers(418, "short and stout", Retry_After="7"))
    assert await send_post(session, Post(webhook.url, b"{}")) == Answer(418, b"short and stout", 7.0)
    assert await send_post(session, Post(webhook.url, b"{}")) == Answer(204, b"")


async def test_send_post_follows_no_redirect(session: aiohttp.ClientSession, webhook: WebhookReceiver) -> None:
    webhook.fail_next(answers(307, Location=f"{webhook.url}/elsewhere"))
    answer = await send_post(session, Post(webhook.url, b"{}"))
    assert answer.status == 307
    assert webhook.accepted == []


async def test_send_post_keeps_no_cookies(session: aiohttp.ClientSession, webhook: WebhookReceiver) -> None:
    webhook.fail_next(answers(500, Set_Cookie="a=b"))
    await send_post(session, Post(webhook.url, b"{}"))
    await send_post(session, Post(webhook.url, b"{}"))
    assert "Cookie" not in webhook.accepted[0].headers


async def test_send_post_is_transient_when_the_connection_is_refused(session: aiohttp.ClientSession) -> None:
    error = await fail(session, closed_port_url())
    assert isinstance(error, TransientError)
    assert error.reason == "the connection was refused"


async def test_send_post_is_transient_when_no_connection_is_made_in_time() -> None:
    with server_with_full_backlog() as url:
        async with open_session(connect_timeout_s=0.1, total_timeout_s=5.0) as session:
            error = await fail(session, url)
    assert isinstance(error, TransientError)
    assert error.reason == "no connection could be opened in time"


async def test_send_post_is_transient_when_the_host_name_is_unknown() -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=UnknownHostResolver())) as session:
        error = await fail(session, f"http://nowhere.example/{SECRET}")
    assert isinstance(error, TransientError)
    assert error.reason == "the host name could not be resolved"


async def test_send_post_is_transient_when_the_server_has_no_tls(
    session: aiohttp.ClientSession, webhook: WebhookReceiver
) -> None:
    error = await fail(session, webhook.url.replace("http:", "https:"))
    assert isinstance(error, TransientError)
    assert error.reason == "no TLS connection could be opened"


@pytest.mark.parametrize("fault", [RESETS_BEFORE, RESETS_AFTER], ids=["before", "after"])
async def test_send_post_is_uncertain_when_the_connection_is_reset(
    session: aiohttp.ClientSession, webhook: WebhookReceiver, fault: Fault
) -> None:
    webhook.fail_next(fault)
    error = await fail(session, webhook.url)
    assert isinstance(error, UncertainError)
    assert error.reason == "the connection broke before an answer came"


async def test_send_post_is_uncertain_when_no_answer_comes_in_time(
    impatient_session: aiohttp.ClientSession, webhook: WebhookReceiver
) -> None:
    webhook.fail_next(HANGS)
    error = await fail(impatient_session, webhook.url)
    assert isinstance(error, UncertainError)
    assert error.reason == "no answer came in time"


@pytest.mark.parametrize(
    "answer", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf"]
)
async def test_send_post_is_uncertain_when_the_answer_is_broken(session: aiohttp.ClientSession, answer: bytes) -> None:
    async with raw_server(answer) as url:
        assert isinstance(await fail(session, url), UncertainError)


async def test_send_post_keeps_a_refusal_when_its_body_is_lost(session: aiohttp.ClientSession) -> None:
    async with raw_server(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 99\r\n\r\nhalf") as url:
        answer = await send_post(session, Post(url, b"{}"))
    assert answer.status == 403


async def test_send_post_reads_no_more_than_the_bound_when_the_answer_is_endless(
    session: aiohttp.ClientSession,
) -> None:
    body = b"x" * 1_000_000
    async with raw_server(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + body) as url:
        answer = await send_post(session, Post(url, b"{}"))
    assert answer.body == b"x" * ANSWER_LIMIT_BYTES


@pytest.mark.parametrize(
    "url", ["no address", "http://[::1", "http://a..b/", "http://a:99999/", "file:///etc/passwd", ""]
)
async def test_send_post_is_permanent_when_the_url_is_not_valid(session: aiohttp.ClientSession, url: str) -> None:
    error = await fail(session, url)
    assert isinstance(error, PermanentError)
    assert error.channel_broken


@pytest.mark.parametrize(
    ("header", "delay_s"),
    [("30", 30.0), ("0", 0.0), ("999999999", 86_400.0), ("soon", None), ("-5", None), ("1.5", None)],
)
async def test_retry_after_is_read_when_it_is_seconds(
    session: aiohttp.ClientSession, webhook: WebhookReceiver, header: str, delay_s: float | None
) -> None:
    webhook.fail_next(answers(429, Retry_After=header))
    assert (await send_post(session, Post(webhook.url, b"{}"))).retry_after_s == delay_s


async def test_retry_after_is_read_when_it_is_a_date(session: aiohttp.ClientSession, webhook: WebhookReceiver) -> None:
    later = datetime.now(UTC) + timedelta(seconds=90)
    webhook.fail_next(answers(503, Retry_After=format_datetime(later, usegmt=True)))
    webhook.fail_next(answers(503, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"))
    delay_s = (await send_post(session, Post(webhook.url, b"{}"))).retry_after_s
    assert delay_s is not None
    assert 80 < delay_s <= 90
    assert (await send_post(session, Post(webhook.url, b"{}"))).retry_after_s == 0.0


async def test_retry_after_is_counted_by_the_clock_of_the_service_when_it_is_a_date(
    session: aiohttp.ClientSession, webhook: WebhookReceiver
) -> None:
    date = {"Retry_After": "Wed, 21 Oct 2015 07:28:00 GMT", "Date": "Wed, 21 Oct 2015 07:27:30 GMT"}
    webhook.fail_next(answers(503, **date))
    assert (await send_post(session, Post(webhook.url, b"{}"))).retry_after_s == 30.0


@pytest.mark.parametrize(
    ("date", "seconds"),
    [
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400.0),
        ("Fri, 31 Dec 9999 23:59:59", 86_400.0),
        ("Mon, 01 Jan 0001 00:00:00 -0000", 0.0),
        ("9" * 400, 86_400.0),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
        ("soon", None),
        ("-1", None),
        ("", None),
    ],
)
async def test_retry_after_is_at_most_a_day_and_ignored_when_it_cannot_be_read(
    date: str, seconds: float | None, session: aiohttp.ClientSession, webhook: WebhookReceiver
) -> None:
    webhook.fail_next(answers(503, Retry_After=date))
    assert (await send_post(session, Post(webhook.url, b"{}"))).retry_after_s == seconds


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (408, TransientError),
        (429, TransientError),
        (503, TransientError),
        (500, UncertainError),
        (502, UncertainError),
        (504, UncertainError),
        (200, UnknownAnswerError),
        (302, PermanentError),
        (400, PermanentError),
        (404, PermanentError),
    ],
)
def test_refusal_returns_the_error_that_fits_what_the_status_proves(status: int, kind: type[DeliveryError]) -> None:
    assert type(refusal(Answer(status, b"", 3.0), "why")) is kind


def test_refusal_has_the_wait_that_the_service_asked_for() -> None:
    assert refusal(Answer(429, b"", 3.0), "why").retry_after_s == 3.0
    assert refusal(Answer(429, b"", 3.0), "why", retry_after_s=5.0).retry_after_s == 5.0


def test_posts_and_answers_show_no_secret() -> None:
    assert repr(Post(f"https://a.example/{SECRET}", SECRET.encode(), {"X": SECRET})) == "<transport.Post>"
    assert str(Answer(404, f"Cannot POST /{SECRET}".encode())) == "<transport.Answer>"


def test_fingerprint_differs_between_destinations_and_hides_their_secrets() -> None:
    assert fingerprint("slack", "https://a.example") == "slack:38612c965a9c4c35"
    assert fingerprint("x", "ab", "c") != fingerprint("x", "a", "bc")

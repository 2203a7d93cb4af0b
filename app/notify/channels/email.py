"""E-mail by SMTP."""

import asyncio
import hashlib
import re
import smtplib
import ssl
from email.message import EmailMessage
from email.utils import formatdate
from typing import Any, Final

import aiohttp
import msgspec

from app.notify.message import Message, RenderedMessage
from app.notify.message_lines import PLAIN, Lines, fit, write
from app.notify.pacing import SendLimit
from app.notify.transport import (
    TOTAL_TIMEOUT_S,
    ChannelConfig,
    Delivered,
    DeliveryError,
    Endpoints,
    PermanentError,
    TransientError,
    UncertainError,
    fingerprint,
)

TYPE: Final = "email"

TEXT_CHARS: Final = 100_000
_SECURITY: Final = ("starttls", "tls", "none")
_PORTS: Final = {"starttls": 587, "tls": 465, "none": 25}
_ADDRESS: Final = re.compile(r"[^@\s,;<>\"]+@[^@\s,;<>\"]+")
_TEMPORARY: Final = range(400, 500)


class Config(ChannelConfig, frozen=True):
    """A mail server, and from whom and to whom the messages are."""

    host: str
    sender: str
    #: One address, or several with commas between.
    to: str
    #: Left out: the usual one of `security`.
    port: int | str | None = None
    #: `starttls`, `tls` from the first byte, or `none`.
    security: str = "starttls"
    username: str | None = None
    password: str | None = None

    def __post_init__(self) -> None:
        if self.security not in _SECURITY:
            raise ValueError(f"security must be one of {', '.join(_SECURITY)}")
        if self.port is not None and not (str(self.port).isdecimal() and 0 < int(self.port) < 65_536):
            raise ValueError("port must be a number from 1 to 65535")
        if not self.host or set(self.host) & set("/@ ") or self.host.rpartition(":")[2].isdecimal():
            raise ValueError("host must be a name alone, such as mail.example.org; write the port as port: 587")
        if _ADDRESS.fullmatch(self.sender) is None:
            raise ValueError("sender must be an address, such as tidegauge@example.org")
        if not self.recipients or not all(map(_ADDRESS.fullmatch, self.recipients)):
            raise ValueError("to must be addresses with commas between, such as ann@example.org, bob@example.org")
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password must be given together")
        if self.password is not None and self.security == "none":
            raise ValueError("security must be starttls or tls where there is a password")

    @property
    def recipients(self) -> list[str]:
        """Return the addresses of `to`."""
        return [part.strip() for part in self.to.split(",") if part.strip()]


def check(config: Config, endpoints: Endpoints) -> str | None:
    """Allow any server, because the operator chooses it."""
    return None


def destination(config: Config) -> str:
    """Return a name for the recipients at the server."""
    return fingerprint(TYPE, config.host, config.to)


def limits(config: Config) -> tuple[SendLimit, ...]:
    """Allow one mail a second for each destination."""
    return (SendLimit(destination(config), every_s=1.0, burst=3),)


def render(message: Message) -> RenderedMessage:
    """Return the mail: subject, text, and ids. A resend has the same id, so that servers can drop the second one."""
    fitted = fit(message, _cost, TEXT_CHARS)
    text = "\n\n".join(write(lines, PLAIN) for lines in fitted.blocks())
    identity = msgspec.json.encode([message.title, text, message.at])
    body: dict[str, Any] = {
        "subject": " ".join(message.title.split()),
        "message_id": f"<{hashlib.sha256(identity).hexdigest()[:32]}@tidegauge>",
        "text": f"{text}\n",
    }
    if message.reply_to is not None:
        body["in_reply_to"] = message.reply_to
    return RenderedMessage(body)


async def send(
    session: aiohttp.ClientSession, config: Config, rendered: RenderedMessage, endpoints: Endpoints
) -> Delivered:
    """Send the mail to all recipients; those that the server refuses are left out while it takes one."""
    mail = _compose(config, rendered.body)
    error = await asyncio.to_thread(_send, config, mail)
    if error is not None:
        raise error
    return Delivered(str(rendered.body["message_id"]), "queued")


def _compose(config: Config, body: dict[str, Any]) -> EmailMessage:
    mail = EmailMessage()
    mail["Subject"] = body["subject"]
    mail["From"] = config.sender
    mail["To"] = ", ".join(config.recipients)
    mail["Date"] = formatdate()
    mail["Message-ID"] = body["message_id"]
    mail["Auto-Submitted"] = "auto-generated"
    if "in_reply_to" in body:
        mail["In-Reply-To"] = mail["References"] = body["in_reply_to"]
    mail.set_content(body["text"])
    return mail


def _send(config: Config, mail: EmailMessage) -> DeliveryError | None:
    """Send a mail in a thread; return what went wrong, without what the server said: it may quote secrets."""
    is_begun = is_taken = False
    try:
        with _connect(config) as server:
            server.ehlo_or_helo_if_needed()
            _expect(server.mail(config.sender, ["SMTPUTF8"] if server.has_extn("smtputf8") else []), "the sender")
            answers = [server.rcpt(recipient) for recipient in config.recipients]
            if not any(code in (250, 251) for code, _ in answers):
                _expect(answers[0], "the recipients")
            is_begun = True
            _expect(server.data(mail.as_bytes()), "the mail")
            is_taken = True
    except _RefusedError as refused:
        return _refusal(refused)
    except smtplib.SMTPAuthenticationError as error:
        temporary = error.smtp_code in _TEMPORARY
        return _refusal(_RefusedError("the password", error.smtp_code), is_broken=not temporary)
    except smtplib.SMTPResponseException as error:
        # The mail was accepted; only the end of the session failed.
        return None if is_taken else _refusal(_RefusedError("the connection", error.smtp_code))
    except smtplib.SMTPNotSupportedError:
        return PermanentError("the mail server does not offer what security asks for", channel_broken=True)
    except (smtplib.SMTPException, OSError) as error:
        if is_taken:
            return None
        if is_begun:
            return UncertainError("the connection broke before the mail server took the mail")
        kind = (
            "the connection was refused"
            if isinstance(error, ConnectionRefusedError)
            else "no connection could be opened"
        )
        return TransientError(kind)
    return None


class _RefusedError(Exception):
    """The mail server refused a step; `code` is its answer."""

    def __init__(self, step: str, code: int) -> None:
        super().__init__(step)
        self.step, self.code = step, code


def _expect(answer: tuple[int, bytes], step: str) -> None:
    if answer[0] not in (250, 251):
        raise _RefusedError(step, answer[0])


def _refusal(refused: _RefusedError, *, is_broken: bool = False) -> DeliveryError:
    reason = f"the mail server refused {refused.step}: {refused.code}"
    if refused.code in _TEMPORARY:
        return TransientError(reason)
    return PermanentError(reason, channel_broken=is_broken or refused.step in ("the sender", "the recipients"))


def _connect(config: Config) -> smtplib.SMTP:
    port = int(config.port) if config.port is not None else _PORTS[config.security]
    context = ssl.create_default_context()
    if config.security == "tls":
        server: smtplib.SMTP = smtplib.SMTP_SSL(config.host, port, timeout=TOTAL_TIMEOUT_S, context=context)
    else:
        server = smtplib.SMTP(config.host, port, timeout=TOTAL_TIMEOUT_S)
    try:
        if config.security == "starttls":
            server.starttls(context=context)
        if config.username is not None and config.password is not None:
            server.login(config.username, config.password)
    except BaseException:
        server.close()
        raise
    return server


def _cost(lines: Lines) -> int:
    return len(write(lines, PLAIN)) + 2

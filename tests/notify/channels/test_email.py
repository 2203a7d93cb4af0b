"""E-mail, by a local server that refuses what the real one refuses."""

import aiohttp
import pytest

from app.notify.channels import email
from app.notify.message import Message
from app.notify.transport import DeliveryError, PermanentError, TransientError, UncertainError
from tests.notify.channel_deliveries import MESSAGE, failure, send
from tests.receivers import MailReceiver


def mail_config(server: MailReceiver, to: str = "ann@example.org, bob@example.org") -> email.Config:
    return email.Config(host="127.0.0.1", port=server.port, security="none", sender="tide@example.org", to=to)


async def test_mail_has_subject_text_and_the_message_that_it_answers(session: aiohttp.ClientSession) -> None:
    async with MailReceiver() as server:
        delivered = await send(session, email, mail_config(server), MESSAGE)
        reply = Message(title="1 resolved: cold", reply_to=delivered.message_ref)
        await send(session, email, mail_config(server), reply)
        (recipients, mail), (_, answer) = server.mails
    assert recipients == ["ann@example.org", "bob@example.org"]
    assert (mail["Subject"], mail["From"], mail["To"]) == (
        "1 critical: cold",
        "tide@example.org",
        "ann@example.org, bob@example.org",
    )
    assert mail["Message-ID"] == answer["In-Reply-To"] == delivered.message_ref
    assert mail.get_content().replace("\r\n", "\n").rstrip() == (
        "🚨 1 critical: cold\n\n🚨 freezer_3 temperature -8.5 °C, above -10 °C\n@everyone [door](open)?\n"
        "Page: https://t.example/#/alert/7"
    )


async def test_mail_goes_to_the_recipients_that_the_server_takes(session: aiohttp.ClientSession) -> None:
    async with MailReceiver() as server:
        server.answers["QUIT"] = "421 too busy"
        await send(session, email, mail_config(server, "ann@example.org"), MESSAGE)
        assert len(server.mails) == 1
        server.answers = {"RCPT": "550 no such user"}
        error = await failure(session, email, mail_config(server))
    assert isinstance(error, PermanentError)
    assert (error.channel_broken, error.reason) == (True, "the mail server refused the recipients: 550")


@pytest.mark.parametrize(
    ("server_answers", "kind", "reason"),
    [
        ({"RCPT": "451 try again"}, TransientError, "the mail server refused the recipients: 451"),
        ({"MAIL": "421 too busy"}, TransientError, "the mail server refused the sender: 421"),
        ({"AFTER": "452 no space"}, TransientError, "the mail server refused the mail: 452"),
        ({"AFTER": "554 looks like spam"}, PermanentError, "the mail server refused the mail: 554"),
        ({"AFTER": ""}, UncertainError, "the connection broke before the mail server took the mail"),
        ({"EHLO": "", "HELO": ""}, TransientError, "no connection could be opened"),
    ],
)
async def test_mail_failure_says_what_it_proves(
    session: aiohttp.ClientSession, server_answers: dict[str, str], kind: type[DeliveryError], reason: str
) -> None:
    async with MailReceiver() as server:
        server.answers = server_answers
        error = await failure(session, email, mail_config(server))
    assert (type(error), error.reason) == (kind, reason)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"to": "ann"}, "to must be addresses"),
        ({"sender": "a b@c"}, "sender must be an address"),
        ({"port": "70000"}, "port must be a number"),
        ({"security": "ssl"}, "security must be one of starttls, tls, none"),
        ({"username": "ann"}, "username and password must be given together"),
        ({"security": "none", "username": "a", "password": "b"}, "security must be starttls or tls"),
    ],
)
def test_mail_settings_are_refused_with_what_would_be_right(settings: dict[str, str], fault: str) -> None:
    given = {"host": "mail", "sender": "a@example.org", "to": "b@example.org", **settings}
    with pytest.raises(ValueError, match=fault):
        email.Config(**given)

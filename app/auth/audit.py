"""The audit lines of the log: who did what from where, and which keys were refused."""

import asyncio
from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple

import structlog
from litestar.connection import ASGIConnection

from app.http.proxies import client_address

#: `missing`: the request has no key; `unknown`: there is no such key; `revoked`: it was revoked; `scope`: it lacks the
#: scope.
Reason = Literal["missing", "unknown", "revoked", "scope"]
REPORT_EVERY_S: Final = 60.0
#: Largest number of (address, reason, key) that are counted separately; beyond, the address is "others".
REFUSALS_KEPT: Final = 1_000

log = structlog.get_logger()


def actor(connection: ASGIConnection[Any, Any, Any, Any]) -> dict[str, str]:
    """Return who sends an authenticated request, for the log: the label of the key, and the client's address."""
    return {"key": connection.scope["state"]["api_key"].label, "client": client_address(connection.scope)}


class _Refusal(NamedTuple):
    client: str
    reason: Reason
    #: The label of the key; None for an unknown key.
    key: str | None


class Refusals:
    """Logs refused keys: the first refusal of an address at once, further ones as a count every REPORT_EVERY_S.

    When REFUSALS_KEPT are counted separately, refusals from further addresses are counted together as "others".
    """

    def __init__(self) -> None:
        #: Called with the reason of each refusal.
        self.on_refused: Callable[[Reason], None] = lambda reason: None
        #: Refusals since the last line, for each (address, reason, key) that had a line in this period or the last one.
        self._since_line: dict[_Refusal, int] = {}

    def count(self, client: str, reason: Reason, key: str | None = None) -> None:
        """Count a refused key; log it if no key like it was logged recently and the request had a key."""
        self.on_refused(reason)
        if reason == "missing":
            return
        refusal = _Refusal(client, reason, key)
        if refusal not in self._since_line and len(self._since_line) >= REFUSALS_KEPT:
            refusal = _Refusal("others", reason, None)
        if refusal in self._since_line:
            self._since_line[refusal] += 1
        else:
            self._since_line[refusal] = 0
            _log(refusal, 1)

    def report(self) -> None:
        """Log the counts of refusals since the last line, and forget those without new refusals."""
        for refusal, count in tuple(self._since_line.items()):
            if count:
                _log(refusal, count)
                self._since_line[refusal] = 0
            else:
                del self._since_line[refusal]

    async def report_forever(self) -> None:
        """Report every REPORT_EVERY_S until cancelled, and once more at the end."""
        try:
            while True:
                await asyncio.sleep(REPORT_EVERY_S)
                self.report()
        finally:
            self.report()


def _log(refusal: _Refusal, count: int) -> None:
    log.warning("key_refused", reason=refusal.reason, key=refusal.key, client=refusal.client, count=count)

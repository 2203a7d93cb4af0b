"""Addresses of clients behind proxies; only the headers of trusted proxies count."""

from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address

from litestar.types import ASGIApp, Receive, Scope, Send

from app.settings import Network

_HEADER = b"x-forwarded-for"
#: Longest text that is taken as an address, because it goes into the log and the database. Addresses are shorter.
_ADDRESS_LENGTH = 60


class TrustedProxies:
    """Takes the client's address from X-Forwarded-For, when one of these proxies has sent the request."""

    def __init__(self, app: ASGIApp, proxies: Sequence[Network]) -> None:
        self._app = app
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a connection to the application."""
        if client := scope.get("client"):
            scope["client"] = (self._find_client(client[0], scope), client[1])
        await self._app(scope, receive, send)

    def _find_client(self, peer: str, scope: Scope) -> str:
        """Return the last address that is not of a trusted proxy; each proxy appends the address of its client.

        Earlier addresses may be invented by the client. The search also ends at a value that is not an address.
        """
        address = _plain(peer)
        forwarded = b",".join(value for name, value in scope["headers"] if name == _HEADER).decode("latin-1")
        for before in reversed(forwarded.split(",")):
            found = _plain(before)
            if not self._trusts(address) or not found:
                break
            address = found
        return address or peer

    def _trusts(self, address: str) -> bool:
        return bool(address) and any(ip_address(address) in network for network in self._proxies)


def client_address(scope: Scope) -> str:
    """Return the address that a request came from, empty when the server does not know it."""
    client = scope.get("client")
    return client[0][:_ADDRESS_LENGTH] if client else ""


def _plain(text: str) -> str:
    """Return an address in its usual form, without a port; IPv4 in IPv6 becomes IPv4. Other texts become empty."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return ""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)

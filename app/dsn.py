"""Addresses of PostgreSQL that name several hosts, as libpq takes them: `postgresql://user@a:5432,b:5433/name`."""

from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit


def split_hosts(dsn: str) -> list[str]:
    """Return the address of each host that an address names, in order, each for one host only.

    Raise ValueError if it cannot be read as an address. The message does not quote it, because of the password.
    """
    address = urlsplit(dsn)
    login, at, hosts = address.netloc.partition("@") if "@" in address.netloc else ("", "", address.netloc)
    if "@" in hosts:
        raise ValueError("the login contains an @")
    if hosts:
        return [urlunsplit(address._replace(netloc=f"{login}{at}{_check_host(host)}")) for host in hosts.split(",")]
    query = {name: values[-1] for name, values in parse_qs(address.query).items()}
    names, ports = query.get("host", "").split(","), query.get("port", "").split(",")
    if len(ports) not in (1, len(names)):
        raise ValueError(f"it has {len(names)} hosts and {len(ports)} ports")
    if len(names) == 1:
        return [dsn]
    given = zip(names, ports * len(names) if len(ports) == 1 else ports, strict=True)
    queries = [query | {"host": name} | ({"port": port} if port else {}) for name, port in given]
    return [_with_query(dsn, each) for each in queries]


def _check_host(host: str) -> str:
    """Return a host with its port; raise ValueError if the host is missing or the port is none."""
    parts = urlsplit(f"//{host}")
    if not parts.hostname or parts.port == 0:
        raise ValueError("a host is missing, or a port is 0")
    return host


def _with_query(dsn: str, query: dict[str, str]) -> str:
    base = dsn.partition("?")[0]
    return f"{base}?{urlencode(query)}"

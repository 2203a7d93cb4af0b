"""Examples that `tidegauge key create` prints with a new key: senders of readings by curl, Telegraf, Home Assistant."""

from typing import Final
from urllib.parse import urlsplit

from app.settings import Settings
from app.uplink import server_url

_SNIPPETS: Final = """
Send a reading with curl:

curl "{address}/api/v1/readings" -H "X-API-Key: {key}" -d '[{{"sensor": "cellar", "values": {{"temperature": 12.5}}}}]'

Telegraf, in telegraf.conf:

[[outputs.influxdb_v2]]
  urls = ["{address}"]
  token = "{key}"
  organization = "any"
  bucket = "any"

Home Assistant, in configuration.yaml:

influxdb:
  api_version: 2
  ssl: {has_tls}
  host: {host}
  port: {port}{path}
  token: {key}
  organization: any
  bucket: any"""


def write_snippets(key: str, settings: Settings, gateway: str | None) -> str:
    """Return examples with the key and the server's address, PUBLIC_URL or else HOST and PORT."""
    address = (settings.public_url or f"{server_url(settings)}{settings.root_path}").rstrip("/")
    parts = urlsplit(address)
    has_tls = parts.scheme == "https"
    text = _SNIPPETS.format(
        key=key,
        address=address,
        has_tls="true" if has_tls else "false",
        host=parts.hostname,
        port=parts.port or (443 if has_tls else 80),
        path=f"\n  path: {parts.path}" if parts.path else "",
    )
    return text if gateway is None else f"{text}\n\nReadings sent with this key are those of the gateway {gateway}."

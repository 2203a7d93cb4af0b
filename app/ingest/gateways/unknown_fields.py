"""Fields of uploads that no format has: counted, and logged once for each gateway, because they may be misspelt."""

import structlog

from app.ingest.uploads.upload import Upload
from app.metrics import Metrics

#: Largest number of gateways and fields that are remembered and logged; further ones are ignored.
_REMEMBERED = 10_000
log = structlog.get_logger()


class UnknownFields:
    """Counts the fields that were left out of uploads."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._known: set[tuple[str, str | None, str]] = set()

    def note(self, upload: Upload) -> None:
        """Count the unknown fields of an upload; log those that its gateway has not sent before."""
        fields = upload.rejected.unknown_fields
        if not fields:
            return
        self._metrics.fields_ignored.inc(sum(fields.values()))
        label = upload.api_key.label
        new = [name for name in fields if (label, upload.gateway, name) not in self._known]
        if new and len(self._known) < _REMEMBERED:
            self._known.update((label, upload.gateway, name) for name in new)
            log.warning("unknown_fields_ignored", key=label, gateway=upload.gateway, fields=sorted(new))

"""Names that tests of alerting import from here; they are defined in `dispatchers`."""

from tests.notify.dispatchers import quick_pacer, until

__all__ = ["quick_pacer", "until"]

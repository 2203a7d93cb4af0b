"""The watchdog: asks an address while rules are evaluated. Who serves that address notices when evaluation stops."""

import asyncio
from collections.abc import Callable
from time import monotonic

import aiohttp
import structlog

from app.alerting.rules.channel_secrets import ForbiddenReferenceError, MissingSecretError, resolve_fields
from app.alerting.rules.model import RuleSet, Watchdog
from app.clock import SECOND_US
from app.notify.transport import open_session
from app.settings import Settings

_LOOK_EVERY_S = 0.5
log = structlog.get_logger()


async def keep_watchdog(settings: Settings, rules: Callable[[], RuleSet], is_current: Callable[[], bool]) -> None:
    """Ask the address of the rules in force as often as they say, while `is_current` is true. Run until cancelled."""
    asked_at = float("-inf")
    async with open_session() as session:
        while True:
            watchdog = rules().watchdog
            is_due = watchdog is not None and monotonic() - asked_at >= watchdog.every_us / SECOND_US
            if watchdog is not None and is_due and is_current():
                asked_at = monotonic()
                await _ask(session, settings, watchdog)
            await asyncio.sleep(_LOOK_EVERY_S)


async def _ask(session: aiohttp.ClientSession, settings: Settings, watchdog: Watchdog) -> None:
    """Ask the address once; log what went wrong, without the address, which may be secret."""
    try:
        url = str(resolve_fields({"url": watchdog.url}, settings.channel_variables)["url"])
        async with session.get(url, allow_redirects=False) as response:
            if not response.ok:
                log.warning("watchdog_refused", status=response.status)
    except (MissingSecretError, ForbiddenReferenceError) as error:
        log.warning("watchdog_unusable", error=str(error))
    except (aiohttp.ClientError, OSError, UnicodeError, ValueError) as error:
        log.warning("watchdog_not_reached", error=type(error).__name__)

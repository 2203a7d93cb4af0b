"""The watchdog asks its address while rules are evaluated, and not while they are not."""

import asyncio

from app.alerting.rules.model import RuleSet, Watchdog
from app.alerting.telling.watchdog import keep_watchdog
from app.clock import SECOND_US
from app.settings import Settings
from tests.receivers import WebhookReceiver


async def test_watchdog_asks_its_address_while_rules_are_evaluated() -> None:
    asked, is_current = asyncio.Event(), True
    async with WebhookReceiver() as receiver:
        settings = Settings(channel_variables={"CHANNEL_WATCHDOG": f"{receiver.url}/ping/1"})
        rules = RuleSet(watchdog=Watchdog("${CHANNEL_WATCHDOG}", SECOND_US // 10))
        looks_left, looked_again = 0, asyncio.Event()

        def looks() -> bool:
            nonlocal looks_left
            looks_left -= 1
            if looks_left == 0:
                looked_again.set()
            if receiver.refused:  # a GET without a body is no webhook: the receiver refuses it, and has been asked
                asked.set()
            return is_current

        task = asyncio.create_task(keep_watchdog(settings, lambda: rules, looks))
        await asyncio.wait_for(asked.wait(), 20)
        is_current, looks_left, count = False, 3, len(receiver.refused)
        await asyncio.wait_for(looked_again.wait(), 20)
        assert len(receiver.refused) <= count + 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

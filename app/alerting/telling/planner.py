"""Planning of messages: puts groups that need a message into the outbox, and composes a message when it is claimed."""

from app.alerting.episodes.samples import samples
from app.alerting.rules.model import RuleSet
from app.alerting.telling.decisions import Action, decide, is_acked, reminders, schedule
from app.alerting.telling.links import Addresses
from app.alerting.telling.messages import write_message
from app.alerting.telling.situation import Situation, load_situation
from app.alerting.telling.sql import SQL
from app.alerting.telling.untold import Group
from app.clock import from_us
from app.db.pool import Connection
from app.notify.outbox import Composed, ToldItem, enqueue


async def plan(connection: Connection, rules: RuleSet) -> int:
    """Put every group with a message to send into the outbox, and settle episodes; return the number of groups."""
    situation = await load_situation(connection, rules, await connection.fetchval(SQL["get_now"]))
    decision = decide(situation)
    if decision.settled:
        await connection.execute(SQL["settle"], decision.settled)
    due = schedule(situation, decision)
    for group in _groups_told_firing(situation) - due.keys():
        if reminders(situation, *group):
            due[group] = situation.now_us
    # In a fixed order, so that two transactions that plan cannot deadlock.
    for group, due_us in sorted(due.items()):
        await enqueue(connection, *group, from_us(due_us))
    return len(due)


async def compose(
    connection: Connection, rules: RuleSet, addresses: Addresses, channel: str, group_key: str, at_once: bool
) -> Composed | None:
    """Return a message about the current state of a group; None if there is nothing to tell, or it is not due yet.

    The check that it is due is needed because a group may be planned while another message of it is being claimed, and
    then it is planned too early. With `at_once` there is no such check.
    """
    now_us = await connection.fetchval(SQL["get_now"])
    situation = await load_situation(connection, rules, now_us, addresses.zone)
    decision = decide(situation)
    group = (channel, group_key)
    actions = [each for each in decision.actions if (each.channel, each.group_key) == group and not each.held]
    if not at_once and schedule(situation, decision).get(group, 0) > situation.now_us:
        return None
    if all(action.is_passive for action in actions):
        reminder_actions = reminders(situation, channel, group_key)
        actions = [*reminder_actions, *actions] if reminder_actions else []
    if not actions:
        return None
    await _update_episodes(connection, actions)
    values = await _sample_values(connection, situation, actions)
    message = write_message(situation, channel, actions, values, addresses)
    return Composed(message, tuple(_item(action) for action in actions))


async def _sample_values(
    connection: Connection, situation: Situation, actions: list[Action]
) -> dict[int, float | None]:
    """Return the current sample of each episode's rule, by episode id; None if there is no sample now."""
    values: dict[int, float | None] = {}
    for episode in (action.episode for action in actions):
        terms = situation.terms(episode)
        values[episode.id] = episode.last_value
        if terms is None or terms.value.kind == "last" or episode.last_us is None:
            continue
        since_us = episode.last_us - terms.value.window_us
        rows = await connection.fetch(SQL["list_window"], episode.series_id, since_us, episode.last_us)
        found = list(samples(terms.value, [(row["us"], row["value"]) for row in rows]))
        values[episode.id] = found[-1].value if found and found[-1].t == episode.last_us else None
    return values


async def _update_episodes(connection: Connection, actions: list[Action]) -> None:
    """Update the episodes for the message that tells these actions.

    An episode that is over but told as firing needs another message about its end, so its revision is increased. An
    acknowledgement of a lower level than the one told is removed.
    """
    ended = [action.episode.id for action in actions if action.kind == "firing" and not action.episode.is_open]
    if ended:
        await connection.execute(SQL["count_change"], ended)
    firing = [each.episode.id for each in actions if each.told == "firing" and each.episode.is_open]
    if firing:
        again = [each.episode.id for each in actions if each.kind == "again"]
        await connection.execute(SQL["note_told"], firing, again)
    raised = [action.episode.id for action in actions if action.kind == "raised" and not is_acked(action.episode)]
    if raised:
        await connection.execute(SQL["drop_ack"], raised)


def _item(action: Action) -> ToldItem:
    episode = action.episode
    return ToldItem(episode.id, episode.revision, action.kind, episode.level, action.told)


def _groups_told_firing(situation: Situation) -> set[Group]:
    """Return the groups with an episode that is not resolved and that the channel was told is firing."""
    return {
        (channel, situation.group_key(episode))
        for episode in situation.episodes
        if episode.resolved_us is None
        for channel, told in situation.told.get(episode.id, {}).items()
        if told.state == "firing"
    }

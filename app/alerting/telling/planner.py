"""From what is true to the outbox, and from the outbox to words: decides when a group hears something, and what."""

from app.alerting.episodes.samples import samples
from app.alerting.rules.model import RuleSet
from app.alerting.telling.decisions import Action, decide, is_acked, reminders, schedule
from app.alerting.telling.links import Addresses
from app.alerting.telling.messages import write_message
from app.alerting.telling.situation import Situation, load_situation
from app.alerting.telling.sql import SQL
from app.clock import from_us, now_us
from app.db.pool import Connection
from app.notify.outbox import Composed, ToldItem, enqueue


async def plan(connection: Connection, rules: RuleSet) -> int:
    """Put every group that has something to hear into the outbox, and settle what is told; return how many groups."""
    situation = await load_situation(connection, rules, now_us())
    decision = decide(situation)
    if decision.settled:
        await connection.execute(SQL["settle"], decision.settled)
    due = schedule(situation, decision)
    for group in _told_groups(situation) - due.keys():
        if reminders(situation, *group):
            due[group] = situation.now_us
    # In one order, so that two who plan never deadlock.
    for group, due_us in sorted(due.items()):
        await enqueue(connection, *group, from_us(due_us))
    return len(due)


async def compose(
    connection: Connection, rules: RuleSet, addresses: Addresses, channel: str, group_key: str, at_once: bool
) -> Composed | None:
    """Write what is true for a group at this moment; None when nothing is left to say, or not yet.

    What is planned while a message is being claimed is planned too early; the turn is kept here, but `at_once`.
    """
    situation = await load_situation(connection, rules, now_us())
    decision = decide(situation)
    group = (channel, group_key)
    actions = [each for each in decision.actions if (each.channel, each.group_key) == group and not each.held]
    if not at_once and schedule(situation, decision).get(group, 0) > situation.now_us:
        return None
    if all(action.is_passive for action in actions):
        reminding = reminders(situation, channel, group_key)
        actions = [*reminding, *actions] if reminding else []
    if not actions:
        return None
    await _note_told(connection, actions)
    values = await _sample_values(connection, situation, actions)
    message = write_message(situation, channel, actions, values, addresses)
    return Composed(message, tuple(_item(action) for action in actions))


async def _sample_values(
    connection: Connection, situation: Situation, actions: list[Action]
) -> dict[int, float | None]:
    """Compute what the rules look at now, by episode: the newest reading, or what is made of its window."""
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


async def _note_told(connection: Connection, actions: list[Action]) -> None:
    """A higher level ends an acknowledgement.

    What was over when it is told as firing has its end left to tell: another change.
    """
    ended = [action.episode.id for action in actions if action.kind == "firing" and not action.episode.is_open]
    if ended:
        await connection.execute(SQL["count_change"], ended)
    raised = [action.episode.id for action in actions if action.kind == "raised" and not is_acked(action.episode)]
    if raised:
        await connection.execute(SQL["drop_ack"], raised)


def _item(action: Action) -> ToldItem:
    episode = action.episode
    return ToldItem(episode.id, episode.revision, action.kind, episode.level, action.told)


def _told_groups(situation: Situation) -> set[tuple[str, str]]:
    """Name the groups of which some channel was told that they fire."""
    return {
        (channel, situation.group_key(episode))
        for episode in situation.episodes
        if episode.resolved_us is None
        for channel, told in situation.told.get(episode.id, {}).items()
        if told.state == "firing"
    }

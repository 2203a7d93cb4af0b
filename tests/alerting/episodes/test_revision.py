from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from app.alerting.episodes.machine import Episode, Step
from app.alerting.episodes.revision import (
    Ack,
    Deleted,
    Kept,
    Merged,
    New,
    Retracted,
    Split,
    StoredEpisode,
    Told,
    revise,
)
from tests.alerting.revision_oracle import oracle_outcomes

FIRING = Told("firing", "warning")
RESOLVED = Told("resolved", "warning")
ANNA = Ack("anna", 15, "warning")
BEN = Ack("ben", 25, "critical")


def span(start: int, end: int | None, level: str = "warning") -> Episode:
    return Episode(start, start, end, (Step(level, start),))


def old(
    id_: int, start: int, end: int | None, ack: Ack | None = None, level: str = "warning", **told: Told
) -> StoredEpisode:
    return StoredEpisode(id_, span(start, end, level), told, ack)


def test_revise_returns_no_outcome_when_content_is_the_same() -> None:
    stored = [old(1, 10, 20, ops=RESOLVED), old(2, 30, None, ops=FIRING)]

    assert revise(stored, [span(10, 20), span(30, None)]) == []


def test_episode_is_new_when_it_overlaps_no_old_one() -> None:
    assert revise([old(1, 10, 20)], [span(10, 20), span(21, 25)]) == [New(span(21, 25))]


def test_open_episodes_match_when_an_earlier_new_one_overlaps_the_open_old_one() -> None:
    stored = [old(1, 10, None, ops=FIRING)]

    assert revise(stored, [span(10, 20), span(30, None)]) == [
        Kept(1, span(30, None), {"ops": FIRING}, None),
        Split(span(10, 20), {"ops": RESOLVED}),
    ]


def test_open_old_episode_is_kept_when_it_turns_out_to_be_over() -> None:
    assert revise([old(1, 10, None, ANNA, ops=FIRING)], [span(12, 18)]) == [
        Kept(1, span(12, 18), {"ops": FIRING}, ANNA),
    ]


def test_new_episode_matches_the_earliest_old_one_when_it_overlaps_several() -> None:
    stored = [old(1, 10, 20), old(2, 30, 40)]

    assert revise(stored, [span(15, 35)]) == [Deleted(2), Kept(1, span(15, 35), {}, None)]


def test_earliest_new_episode_matches_when_one_old_one_was_split() -> None:
    stored = [old(1, 10, 40, ops=RESOLVED)]

    assert revise(stored, [span(30, 40), span(10, 20)]) == [
        Kept(1, span(10, 20), {"ops": RESOLVED}, None),
        Split(span(30, 40), {"ops": RESOLVED}),
    ]


def test_new_episode_matches_the_next_old_one_when_the_first_is_matched() -> None:
    stored = [old(1, 10, 20), old(2, 30, 40)]

    assert revise(stored, [span(11, 12), span(15, 35)]) == [
        Kept(1, span(11, 12), {}, None),
        Kept(2, span(15, 35), {}, None),
    ]


def test_spans_overlap_when_they_share_one_microsecond() -> None:
    assert revise([old(1, 10, 20)], [span(20, 30)]) == [Kept(1, span(20, 30), {}, None)]
    assert revise([old(1, 10, 20)], [span(21, 30)]) == [Deleted(1), New(span(21, 30))]


def test_told_and_ack_are_inherited_when_an_episode_merges_into_an_untold_one() -> None:
    stored = [old(1, 10, 20), old(2, 30, 40, ANNA, ops=FIRING, duty=RESOLVED)]

    assert revise(stored, [span(10, 40)]) == [
        Merged(2, into=1),
        Kept(1, span(10, 40), {"ops": FIRING, "duty": RESOLVED}, ANNA),
    ]


def test_firing_is_inherited_over_resolved_when_episodes_merge() -> None:
    critical_over = Told("resolved", "critical")

    first_firing = revise([old(1, 10, 20, ops=FIRING), old(2, 30, 40, ops=critical_over)], [span(10, 40)])
    second_firing = revise([old(1, 10, 20, ops=critical_over), old(2, 30, 40, ops=FIRING)], [span(10, 40)])

    assert first_firing == [Merged(2, into=1), Kept(1, span(10, 40), {"ops": FIRING}, None)]
    assert second_firing == [Merged(2, into=1), Kept(1, span(10, 40), {"ops": FIRING}, None)]


def test_higher_level_told_is_inherited_when_both_were_told_firing() -> None:
    higher = Told("firing", "critical")
    stored = [old(1, 10, 20, ops=FIRING), old(2, 30, 40, level="critical", ops=higher)]

    assert revise(stored, [span(10, 40)]) == [
        Merged(2, into=1),
        Kept(1, span(10, 40), {"ops": higher}, None),
    ]


def test_ack_of_the_higher_level_is_inherited_when_both_were_acknowledged() -> None:
    stored = [old(1, 10, 20, ANNA), old(2, 30, 40, BEN)]

    assert revise(stored, [span(10, 40)]) == [Deleted(2), Kept(1, span(10, 40), {}, BEN)]


def test_later_ack_is_inherited_when_both_are_for_the_same_level() -> None:
    later = Ack("carl", 30, "warning")

    assert revise([old(1, 10, 20, later), old(2, 30, 40, ANNA)], [span(10, 40)]) == [
        Deleted(2),
        Kept(1, span(10, 40), {}, later),
    ]


def test_merged_episode_is_deleted_when_nobody_was_told_of_it() -> None:
    stored = [old(1, 10, 20, ops=FIRING), old(2, 30, 40)]

    assert revise(stored, [span(10, 40)]) == [Deleted(2), Kept(1, span(10, 40), {"ops": FIRING}, None)]


def test_episode_merges_into_the_open_one_when_it_overlaps_a_closed_one_too() -> None:
    # Episode 3 is the open one. Episode 2 overlaps both new ones; the earlier of these matches episode 1.
    stored = [old(1, 10, 20, ops=RESOLVED), old(2, 30, 40, ops=RESOLVED), old(3, 50, None)]

    assert revise(stored, [span(10, 32), span(38, None)]) == [
        Merged(2, into=3),
        Kept(1, span(10, 32), {"ops": RESOLVED}, None),
        Kept(3, span(38, None), {"ops": RESOLVED}, None),
    ]


def test_episode_merges_into_the_first_when_none_that_it_overlaps_is_open() -> None:
    stored = [old(1, 10, 20), old(2, 30, 40, ops=RESOLVED), old(3, 44, 60), old(4, 90, None)]

    assert revise(stored, [span(10, 32), span(90, None)]) == [
        Merged(2, into=1),
        Deleted(3),
        Kept(1, span(10, 32), {"ops": RESOLVED}, None),
    ]


def test_told_of_every_channel_is_inherited_when_several_merge_into_one() -> None:
    stored = [
        old(1, 10, 12, ops=RESOLVED),
        old(2, 14, 16, duty=FIRING),
        old(3, 18, None, ANNA, ops=Told("firing", "critical"), duty=RESOLVED),
    ]

    assert revise(stored, [span(10, None)]) == [
        Merged(1, into=3),
        Merged(2, into=3),
        Kept(3, span(10, None), {"ops": Told("firing", "critical"), "duty": FIRING}, ANNA),
    ]


def test_episode_is_retracted_when_it_was_told_and_overlaps_no_new_one() -> None:
    assert revise([old(1, 10, 20, ops=RESOLVED)], []) == [Retracted(1)]
    assert revise([old(1, 10, None, duty=FIRING)], [span(1, 5)]) == [Retracted(1), New(span(1, 5))]


def test_episode_is_deleted_when_it_was_untold_and_overlaps_no_new_one() -> None:
    assert revise([old(1, 10, 20, ANNA)], []) == [Deleted(1)]


def test_split_is_untold_when_it_is_still_open() -> None:
    stored = [old(1, 10, 40, ops=RESOLVED)]

    assert revise(stored, [span(10, 20), span(30, None)]) == [
        Kept(1, span(10, 20), {"ops": RESOLVED}, None),
        Split(span(30, None), {}),
    ]


def test_split_counts_as_told_resolved_when_the_old_one_was_told_firing() -> None:
    stored = [old(1, 10, 40, ANNA, ops=FIRING)]

    assert revise(stored, [span(10, 20), span(30, 35)]) == [
        Kept(1, span(10, 20), {"ops": FIRING}, ANNA),
        Split(span(30, 35), {"ops": RESOLVED}),
    ]


def test_split_is_untold_when_nobody_was_told_of_the_old_one() -> None:
    assert revise([old(1, 10, 40)], [span(10, 20), span(30, 35)]) == [
        Kept(1, span(10, 20), {}, None),
        Split(span(30, 35), {}),
    ]


def test_split_counts_as_told_on_every_channel_when_it_overlaps_two_told_ones() -> None:
    stored = [old(1, 10, 30, ops=RESOLVED), old(2, 40, None, duty=FIRING)]

    assert revise(stored, [span(10, 15), span(20, 45), span(50, None)]) == [
        Kept(1, span(10, 15), {"ops": RESOLVED}, None),
        Kept(2, span(50, None), {"duty": FIRING}, None),
        Split(span(20, 45), {"ops": RESOLVED, "duty": RESOLVED}),
    ]


levels = st.sampled_from(("info", "warning", "critical"))
told_by_channel = st.dictionaries(
    st.sampled_from(("ops", "duty")), st.builds(Told, st.sampled_from(("firing", "resolved")), levels)
)
acks = st.none() | st.builds(Ack, st.just("anna"), st.integers(0, 3), levels)


@st.composite
def episode_lists(draw: st.DrawFn) -> list[Episode]:
    """Draw episodes in order of time that do not overlap; the last one may be open."""
    times = sorted(draw(st.sets(st.integers(0, 24), max_size=12)))
    pairs = [span(start, end) for start, end in zip(times[::2], times[1::2], strict=False)]
    return [*pairs, span(times[-1], None)] if len(times) % 2 else pairs


@settings(max_examples=500, deadline=None)
@given(episode_lists(), episode_lists(), st.data())
def test_revision_agrees_with_the_oracle_when_episodes_are_random(
    before: Sequence[Episode], recomputed: Sequence[Episode], data: st.DataObject
) -> None:
    stored = [
        StoredEpisode(id_, episode, data.draw(told_by_channel), data.draw(acks)) for id_, episode in enumerate(before)
    ]

    outcomes = revise(stored, recomputed)

    expected = oracle_outcomes(stored, recomputed)
    assert len(outcomes) == len(expected)
    assert all(outcome in expected for outcome in outcomes)

"""Values of alert_episode.reason. It is null for an episode that fired and ended by its readings alone."""

#: Late readings showed that the episode did not happen, or was part of another one.
RETRACTED = "retracted"
#: An alert of missing data, while data are missing and after they are back.
NO_DATA = "no_data"
#: The row marks a series without data whose rule says `no_data: {then: clear}`. It is not an alert.
NO_DATA_CLEAR = "no_data_clear"
#: The rule was removed.
RULE_REMOVED = "rule removed"
#: The rule no longer selects the series.
UNSELECTED = "no longer selected"
#: The sensor was retired or deleted.
RETIRED = "retired"
DELETED = "deleted"
#: No rule checks the series or the gateway for missing data any more.
UNWATCHED = "no longer watched"


def reason_out_of_use(is_retired: bool, is_deleted: bool) -> str | None:
    """Return the reason for which the alerts of a sensor end, or None if it is in use."""
    return DELETED if is_deleted else RETIRED if is_retired else None

"""Why an episode ended or was withdrawn where its readings do not say so: the texts of alert_episode.reason."""

#: Late readings show that the episode never was, or was part of another.
RETRACTED = "retracted"
#: An alert of missing data, while it lasts and after data are back.
NO_DATA = "no_data"
#: Marks a silent series of a rule whose `no_data` says `then: clear`.
NO_DATA_CLEAR = "no_data_clear"
#: The rule was removed.
RULE_REMOVED = "rule removed"
#: The series no longer falls under the rule.
UNSELECTED = "no longer selected"
#: No rule watches the series, or the gateway, for missing data any more.
UNWATCHED = "no longer watched"

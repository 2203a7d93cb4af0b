"""Reasons for which alerts end."""

import pytest

from app.alerting.episodes.reasons import reason_out_of_use


@pytest.mark.parametrize(
    ("is_retired", "is_deleted", "reason"),
    [(False, False, None), (True, False, "retired"), (False, True, "deleted"), (True, True, "deleted")],
)
def test_alerts_end_when_their_sensor_is_out_of_use(is_retired: bool, is_deleted: bool, reason: str | None) -> None:
    assert reason_out_of_use(is_retired, is_deleted) == reason

"""Health of a process: problems and warnings, for probes, metrics, the log and `doctor`.

A *problem* keeps the process from its work, so `/health/ready` answers 503. A *warning* does not.
"""

from app.health.probe import LOOK_EVERY_S, Probe
from app.health.routes import handlers
from app.health.work import HealthWarning, list_work_warnings, read_work, warn_of_skew

__all__ = ["LOOK_EVERY_S", "HealthWarning", "Probe", "handlers", "list_work_warnings", "read_work", "warn_of_skew"]

"""Checks that retention runs as its schedule says, and has brought the store below its limit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from standgale.doctor.access import open_existing_database
from standgale.doctor.port import Finding, ok, warning
from standgale.settings import Settings

# A run may take hours, and a machine may have been off at the time of one.
_LATE = timedelta(hours=24)
_LAST = """
SELECT began_at, ended_at, pictures, over_bytes, stored_bytes, clock_timestamp() AS now
FROM retention_runs WHERE ended_at IS NOT NULL ORDER BY began_at DESC LIMIT 1
"""
_INTENTS = "SELECT count(*), min(planned_at) FROM retention_intents"


class RetentionCheck:
    """Reads what the last runs wrote down."""

    subject = "retention"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def look(self) -> Sequence[Finding]:
        """See :class:`.port.Check`."""
        settings = self._settings.retention
        if not settings.cleanup_enabled:
            return [ok("turned off (retention.cleanup_enabled): no frame is removed")]
        async with open_existing_database(self._settings) as database, database.acquire() as connection:
            last = await connection.fetchrow(_LAST)
            count = await connection.fetchval(_INTENTS, column=0)
            since: datetime | None = await connection.fetchval(_INTENTS, column=1)
        if last is None:
            return [warning("turned on, and no run has ended yet", _remedy(settings.cleanup_schedule))]
        began_at: datetime = last["began_at"]
        found = [_run(began_at, settings.next_after(began_at) + _LATE < last["now"], settings.cleanup_schedule)]
        if last["over_bytes"]:
            found.append(
                warning(
                    f"{last['over_bytes'] / 1e9:.3f} GB above retention.max_total_gb could not be removed: "
                    "everything else is kept",
                    "give the store more room and raise the setting, remove pins, or raise retention.keep_confidence",
                )
            )
        if since is not None and since < began_at:
            found.append(
                warning(
                    f"{count} pictures are planned to be removed since {since:%Y-%m-%d %H:%M} UTC and still there",
                    "read the log of the process that runs retention; the next run carries them out",
                )
            )
        return found


def _run(began_at: datetime, is_late: bool, schedule: str) -> Finding:
    what = f"the last run that ended began at {began_at:%Y-%m-%d %H:%M} UTC"
    return warning(what, _remedy(schedule)) if is_late else ok(what)


def _remedy(schedule: str) -> str:
    return (
        f"it runs at {schedule!r} (UTC) in `standgale up` and `standgale sink retention`; see the log and "
        "/health/ready of that process"
    )

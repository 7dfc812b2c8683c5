"""Estimates, from what arrived in the last days, how long a policy keeps frames and when the disk will be full."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from infra.database.pool import Database
from sinks.retention.policy import Policy

MOST_DAYS = 36_500.0
"""Beyond that a forecast says "never" (None)."""
# By the day that they were received. A picture that was sent as several frames counts as several: a little too much.
_ARRIVED = """
SELECT coalesce(sum(size_bytes), 0)::bigint AS total,
    coalesce(sum(size_bytes) FILTER (WHERE processing_status = 'completed' AND NOT has_detections), 0)::bigint AS empty,
    coalesce(sum(size_bytes) FILTER (WHERE is_flagged OR EXISTS (
        SELECT FROM inference_sessions s WHERE s.image_id = images.id AND s.max_confidence >= $3::real)), 0)::bigint
        AS kept,
    min(uploaded_at) AS oldest
FROM images WHERE uploaded_at >= $1 AND uploaded_at < $2
"""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Says how many bytes arrive in a day."""

    total: float
    empty: float
    """Of frames without detections"""
    kept: float
    """Of frames that the policy keeps, whatever their age: confident and flagged ones"""

    @property
    def rest(self) -> float:
        """Of all others."""
        return max(0.0, self.total - self.empty - self.kept)


@dataclass(frozen=True, slots=True)
class Forecast:
    """Says what follows if as much arrives in the future as did in the last days; None: never, or not known."""

    full_in_days: float | None
    """When the disk is full if nothing is removed"""
    limit_in_days: float | None
    """When all pictures reach the limit, if only their age removes some; 0: they are above it"""
    empty_days: float | None
    """How long frames without detections are kept once the limit is reached; None also: none arrive"""
    rest_days: float | None
    """How long the other frames that nothing keeps for ever are kept then; None also: none arrive"""
    stuck_in_days: float | None
    """When what is always kept fills the limit, or the disk, alone: from then on nothing more can be removed"""


async def read_arrivals(database: Database, policy: Policy, days: float) -> Arrivals:
    """Return what arrived in the last ``days``, in a day; of a younger installation, since its first frame."""
    since = policy.now - timedelta(days=days)
    async with database.acquire() as connection:
        row = await connection.fetchrow(_ARRIVED, since, policy.now, policy.keep_confidence)
    assert row is not None
    begin = since if row["oldest"] is None else row["oldest"]
    # Less than a day would make an estimate of some minutes.
    measured = max((policy.now - begin) / timedelta(days=1), 1.0)
    return Arrivals(row["total"] / measured, row["empty"] / measured, row["kept"] / measured)


def forecast(
    arrivals: Arrivals,
    *,
    stored: int,
    kept: int,
    free: int | None,
    max_bytes: int | None,
    retention_days: float | None,
    least_days: float,
) -> Forecast:
    """Return what follows from ``arrivals``.

    ``stored`` and ``kept`` are the bytes of all pictures, and of those that are always kept, now; ``free`` those that
    the disk has room for, None when that is not known. Nothing is removed before it is ``least_days`` old.
    """
    room = None if free is None else stored + free
    bound = min((each for each in (max_bytes, room) if each is not None), default=None)
    age = MOST_DAYS if retention_days is None else retention_days
    # What age alone leaves in the end, without what is always kept, which grows.
    steady = (arrivals.empty + arrivals.rest) * age
    empty_days = rest_days = None
    if max_bytes is not None:
        empty_days, rest_days = _days_at_limit(arrivals, max(0.0, max_bytes - kept), age, least_days)
        empty_days = empty_days if arrivals.empty > 0 else None
        rest_days = rest_days if arrivals.rest > 0 else None
    return Forecast(
        full_in_days=None if room is None else _days(room - stored, arrivals.total),
        limit_in_days=None if max_bytes is None else _until_limit(arrivals, stored, kept, max_bytes, steady),
        empty_days=empty_days,
        rest_days=rest_days,
        stuck_in_days=None if bound is None else _days(bound - kept, arrivals.kept),
    )


def _until_limit(arrivals: Arrivals, stored: int, kept: int, max_bytes: int, steady: float) -> float | None:
    direct = _days(max_bytes - stored, arrivals.total)
    if direct == 0 or direct is None or steady + kept + arrivals.kept * direct >= max_bytes:
        return direct
    # Age removes as much as arrives before the limit is reached; then only what is always kept grows.
    return _days(max_bytes - kept - steady, arrivals.kept)


def _days_at_limit(arrivals: Arrivals, room: float, age: float, least_days: float) -> tuple[float, float]:
    """Return how long frames without detections, and the others, are kept when ``room`` is all they have."""
    rest = arrivals.rest * age
    if rest + arrivals.empty * least_days <= room:
        empty_days = age if arrivals.empty == 0 else min(age, (room - rest) / arrivals.empty)
        return empty_days, age
    left = room - arrivals.empty * least_days
    rest_days = age if arrivals.rest == 0 else min(age, left / arrivals.rest)
    return min(age, least_days), max(rest_days, min(age, least_days))


def _days(size: float, per_day: float) -> float | None:
    if size <= 0:
        return 0.0
    if per_day <= 0 or size / per_day > MOST_DAYS:
        return None
    return size / per_day

"""Keeps flights in PostgreSQL; the frames are counted from the rows that the sink writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from infra.database.pool import Connection, Database
from infra.database.transaction import transaction
from infra.errors import DatabaseUnavailableError
from infra.http_api.errors.api_errors import ApiError
from ingest.flights.flight import Failure, Flight

_DEVICE = "SELECT id FROM devices WHERE device_id = $1"
_OPEN = "INSERT INTO flights (device_id, flight_id) VALUES ($1, $2) ON CONFLICT (device_id, flight_id) DO NOTHING"
# Flights that frames have opened do not count: a device need not announce and close them.
_ANNOUNCED = "SELECT count(*) FROM flights WHERE device_id = $1 AND announced IS NOT NULL AND closed_at IS NULL"
_LOCKED = "SELECT announced, closed_at, closed_count FROM flights WHERE device_id = $1 AND flight_id = $2 FOR UPDATE"
_ANNOUNCE = "UPDATE flights SET announced = $3, announced_at = now() WHERE device_id = $1 AND flight_id = $2"
_CLOSE = "UPDATE flights SET closed_count = $3, closed_at = now() WHERE device_id = $1 AND flight_id = $2"
_FLIGHT = """
SELECT flight_id, opened_at, announced, closed_at, closed_count, removed, removed_detected FROM flights
WHERE device_id = $1 AND flight_id = $2
"""
_NEWEST = """
SELECT flight_id, opened_at, announced, closed_at, closed_count, removed, removed_detected FROM flights
WHERE device_id = $1 AND (
    $3::varchar IS NULL
    OR (opened_at, flight_id) < (SELECT opened_at, flight_id FROM flights WHERE device_id = $1 AND flight_id = $3)
)
ORDER BY opened_at DESC, flight_id DESC LIMIT $2
"""
_COUNTS = """
SELECT flight_id, processing_status, failure_reason, count(*) AS frames, min(failure_message) AS message
FROM images WHERE device_id = $1 AND flight_id = ANY($2) GROUP BY 1, 2, 3 ORDER BY 4 DESC, 3
"""
_FAILED = """
SELECT id, failure_reason FROM images
WHERE device_id = $1 AND flight_id = $2 AND processing_status = 'failed' ORDER BY captured_at, id LIMIT $3
"""
_SHOWN_FRAMES = 100
_UNKNOWN = "UNKNOWN"


class FlightClosedError(ApiError):
    """The flight was closed with another count; it stays as it was."""

    code = "FLIGHT_CLOSED"
    status = 409


class TooManyFlightsError(ApiError):
    """The device has as many open flights as it may have."""

    code = "TOO_MANY_FLIGHTS"
    status = 409


class PostgresFlights:
    """Keeps flights; :class:`ingest.flights.flight.Flights` has the contract."""

    def __init__(self, database: Database, *, max_open: int) -> None:
        self._database = database
        self._max_open = max_open

    async def announce(self, device_id: str, flight_id: str, count: int) -> Flight:
        """Open a flight, or change its announced count."""
        async with self._database.acquire() as connection, transaction(connection):
            device, row = await self._open(connection, device_id, flight_id)
            if row["announced"] != count:
                if row["closed_at"] is not None:
                    raise _closed(flight_id, row["closed_count"], f"cannot be announced with {count}")
                if row["announced"] is None:
                    await self._require_room(connection, device)
                await connection.execute(_ANNOUNCE, device, flight_id, count)
            return await _read(connection, device, flight_id)

    async def close(self, device_id: str, flight_id: str, count: int) -> Flight:
        """Close a flight with its count."""
        async with self._database.acquire() as connection, transaction(connection):
            device, row = await self._open(connection, device_id, flight_id)
            if row["closed_at"] is None:
                await connection.execute(_CLOSE, device, flight_id, count)
            elif row["closed_count"] != count:
                raise _closed(flight_id, row["closed_count"], f"cannot be closed with {count}")
            return await _read(connection, device, flight_id)

    async def get(self, device_id: str, flight_id: str) -> Flight | None:
        """Return a flight of a device."""
        async with self._database.acquire() as connection:
            device = await connection.fetchval(_DEVICE, device_id)
            if device is None or await connection.fetchval(_FLIGHT, device, flight_id) is None:
                return None
            return await _read(connection, device, flight_id)

    async def newest(self, device_id: str, limit: int, before: str | None) -> list[Flight]:
        """Return the newest flights of a device."""
        async with self._database.acquire() as connection:
            device = await connection.fetchval(_DEVICE, device_id)
            rows = await connection.fetch(_NEWEST, device, limit, before)
            counts: dict[str, list[Mapping[str, Any]]] = {row["flight_id"]: [] for row in rows}
            for each in await connection.fetch(_COUNTS, device, list(counts)):
                counts[each["flight_id"]].append(dict(each))
            return [_flight(dict(row), counts[row["flight_id"]]) for row in rows]

    async def _open(self, connection: Connection, device_id: str, flight_id: str) -> tuple[UUID, Mapping[str, Any]]:
        """Create the flight unless it exists; return the device's row id and the flight's row, which is locked."""
        device = await connection.fetchval(_DEVICE, device_id)
        if device is None:
            raise DatabaseUnavailableError(f"device {device_id} has a token, but no row in devices yet")
        await connection.execute(_OPEN, device, flight_id)
        row = await connection.fetchrow(_LOCKED, device, flight_id)
        assert row is not None
        return device, dict(row)

    async def _require_room(self, connection: Connection, device: UUID) -> None:
        """Raise TooManyFlightsError, which takes the new row of the transaction back."""
        if await connection.fetchval(_ANNOUNCED, device) >= self._max_open:
            raise TooManyFlightsError(
                f"this device has {self._max_open} open flights that it announced; no more are kept "
                "(gateway.max_open_flights)",
                details="Close flights that are over, then try again.",
            )


async def _read(connection: Connection, device: UUID, flight_id: str) -> Flight:
    row = await connection.fetchrow(_FLIGHT, device, flight_id)
    assert row is not None
    counts = await connection.fetch(_COUNTS, device, [flight_id])
    frames: dict[str, list[UUID]] = {}
    if any(each["processing_status"] == "failed" for each in counts):
        for one in await connection.fetch(_FAILED, device, flight_id, _SHOWN_FRAMES):
            frames.setdefault(one["failure_reason"] or _UNKNOWN, []).append(one["id"])
    return _flight(dict(row), [dict(each) for each in counts], frames)


def _flight(
    row: Mapping[str, Any], counts: Sequence[Mapping[str, Any]], frames: Mapping[str, list[UUID]] | None = None
) -> Flight:
    by_state: dict[str, int] = {}
    for each in counts:
        state = each["processing_status"]
        by_state[state] = by_state.get(state, 0) + each["frames"]
    failures = [
        Failure(reason, each["message"] or "", each["frames"], tuple((frames or {}).get(reason, ())))
        for each in counts
        if each["processing_status"] == "failed" and (reason := each["failure_reason"] or _UNKNOWN)
    ]
    return Flight(
        flight_id=row["flight_id"],
        opened_at=row["opened_at"],
        announced=row["announced"],
        closed_at=row["closed_at"],
        count=row["closed_count"],
        arrived=sum(by_state.values()) + row["removed"],
        detected=by_state.get("completed", 0) + row["removed_detected"],
        failed=by_state.get("failed", 0) + row["removed"] - row["removed_detected"],
        removed=row["removed"],
        failures=failures,
    )


def _closed(flight_id: str, count: int, what: str) -> FlightClosedError:
    return FlightClosedError(
        f"flight {flight_id} was closed with {count} frames and {what}",
        details="Its counts stay as they are; frames that still arrive are counted. GET it to see what does not fit.",
        field="count",
    )

"""Keeps frames from retention: a flight, a device's frames of some time, or certain pictures (a data set)."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from infra.database.pool import Connection
from infra.database.transaction import transaction
from sinks.retention.errors import PinError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MOST_REASON = 1_000
_PART = 10_000
_HOLDS = "(p.expires_at IS NULL OR p.expires_at > now())"
# Whether a pin keeps the picture of {row}, or the frame {row} of the table images.
IS_PINNED_PICTURE = f"""
EXISTS (SELECT FROM retention_pinned_pictures pp JOIN retention_pins p ON p.name = pp.pin
    WHERE pp.sha256 = {{row}}.sha256 AND {_HOLDS})
"""
IS_PINNED_FRAME = f"""
EXISTS (SELECT FROM retention_pins p JOIN devices d ON d.id = {{row}}.device_id
    WHERE NOT p.by_digest AND {_HOLDS}
        AND (p.device_id IS NULL OR p.device_id = d.device_id)
        AND (p.flight_id IS NULL OR p.flight_id = {{row}}.flight_id)
        AND (p.since IS NULL OR {{row}}.captured_at >= p.since)
        AND (p.until IS NULL OR {{row}}.captured_at < p.until))
"""
_INSERT = """
INSERT INTO retention_pins (name, reason, device_id, flight_id, since, until, expires_at, by_digest)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""
_INSERT_PICTURES = """
INSERT INTO retention_pinned_pictures (sha256, pin) SELECT *, $2 FROM unnest($1::varchar[]) ON CONFLICT DO NOTHING
"""
_DELETE = "DELETE FROM retention_pins WHERE name = $1 RETURNING name"
_LIST = """
SELECT name, reason, device_id, flight_id, since, until, expires_at, created_at,
    CASE WHEN by_digest THEN (SELECT count(*) FROM retention_pinned_pictures WHERE pin = name) END AS pictures
FROM retention_pins ORDER BY created_at, name
"""


@dataclass(frozen=True, slots=True)
class Selection:
    """Says which frames are kept: those that fit everything that is given."""

    device_id: str | None = None
    flight_id: str | None = None
    since: datetime | None = None
    """Captured at this time or later"""
    until: datetime | None = None
    """Captured before this time"""


@dataclass(frozen=True, slots=True)
class Pin:
    """Describes a pin."""

    name: str
    reason: str
    device_id: str | None
    flight_id: str | None
    since: datetime | None
    until: datetime | None
    expires_at: datetime | None
    created_at: datetime
    pictures: int | None
    """How many pictures it keeps by their digest; None for one that selects frames"""


async def pin_frames(
    connection: Connection, name: str, reason: str, selection: Selection, expires_at: datetime | None = None
) -> None:
    """Keep the frames of a selection, also those that are still to come. Raises PinError."""
    if selection == Selection():
        raise PinError(f"the pin {name!r} selects nothing; give a device, a flight, a time, or a list of pictures")
    if selection.flight_id is not None and selection.device_id is None:
        raise PinError("two devices may have flights of one name; give the device of the flight, too")
    if selection.since is not None and selection.until is not None and selection.since >= selection.until:
        raise PinError(
            f"the pin {name!r} begins at {selection.since} and ends at {selection.until}, which is not later"
        )
    await _insert(connection, name, reason, selection, expires_at, by_digest=False)


async def pin_pictures(
    connection: Connection, name: str, reason: str, digests: Collection[str], expires_at: datetime | None = None
) -> None:
    """Keep the pictures with ``digests`` (SHA-256, hex), as those of a data set; all or none. Raises PinError."""
    if not digests:
        raise PinError(f"the pin {name!r} has no pictures; give the SHA-256 of each")
    wrong = next((digest for digest in digests if not _DIGEST.fullmatch(digest)), None)
    if wrong is not None:
        raise PinError(f"{wrong[:80]!r} is no SHA-256, which has 64 lower-case hexadecimal digits")
    listed = list(digests)
    async with transaction(connection):
        await _insert(connection, name, reason, Selection(), expires_at, by_digest=True)
        for start in range(0, len(listed), _PART):
            await connection.execute(_INSERT_PICTURES, listed[start : start + _PART], name)


async def unpin(connection: Connection, name: str) -> None:
    """Remove a pin. Raises PinError where there is none."""
    if await connection.fetchval(_DELETE, name[:_MOST_REASON].replace("\0", "")) is None:
        raise PinError(f"there is no pin {name[:100]!r}; `standgale retention pins` lists all")


async def list_pins(connection: Connection) -> Sequence[Pin]:
    """Return all pins, the oldest first."""
    return [Pin(**dict(row)) for row in await connection.fetch(_LIST)]


async def _insert(
    connection: Connection,
    name: str,
    reason: str,
    selection: Selection,
    expires_at: datetime | None,
    *,
    by_digest: bool,
) -> None:
    if not _NAME.fullmatch(name):
        raise PinError(
            f"{name[:100]!r} is no name of a pin: it takes 1 to 100 letters, digits and . _ : -, and begins with a "
            "letter or a digit"
        )
    if not reason.strip() or len(reason) > _MOST_REASON or "\0" in reason:
        raise PinError(f"a pin needs a reason of 1 to {_MOST_REASON} characters; someone will ask for it")
    where = (selection.device_id, selection.flight_id)
    if any(text is not None and (not text or "\0" in text) for text in where):
        raise PinError("the id of a device or a flight cannot be empty, or have a null character")
    try:
        await connection.execute(_INSERT, name, reason, *where, selection.since, selection.until, expires_at, by_digest)
    except asyncpg.UniqueViolationError as error:
        raise PinError(f"there is a pin {name!r} already; remove it first (`standgale retention unpin`)") from error

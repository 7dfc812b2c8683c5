"""Reads and writes the rows of media and their frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from console.media.config import MediaConfig
from console.media.errors import LeaseLostError, MediaRunningError, TooManyMediaError
from infra.database.clock_tests import is_older, is_over
from infra.database.pool import Connection
from infra.database.results import rows_changed
from schemas.geometry import CameraGeometry

PURPOSE = "media"
"""Of the secrets that are kept encrypted while a medium is worked on."""
_CLAIM_LOCK = 0x5374676D65646961
_LOCK_CLIENT = "SELECT FROM api_clients WHERE client_id = $1 FOR NO KEY UPDATE"
_COUNT = "SELECT count(*) FROM media_runs WHERE client_id = $1 AND finished_at IS NULL AND media_id IS NOT NULL"
_RUNNING = "SELECT FROM media_runs WHERE client_id = $1 AND media_id = $2 AND finished_at IS NULL"
_INSERT = """
INSERT INTO media_runs (id, client_id, media_id, state, config, source, token, refresh_token, refresh_at, medium_uri,
    medium_sha256, medium_bytes, medium_type, annotate)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) RETURNING created_at
"""
_IS_LEASED = "NOT " + is_over("{row}.leased_until", "interval '10 minutes'")
_BUSY = f"""
SELECT count(*) FROM media_runs r
WHERE finished_at IS NULL AND media_id IS NOT NULL AND {_IS_LEASED.format(row="r")}
"""  # noqa: S608 (constants)
# A client with many media has those of others between its own.
_CLAIM = f"""
UPDATE media_runs SET state = 'processing', started_at = coalesce(started_at, clock_timestamp()), owner = $1,
    leased_until = clock_timestamp() + $2::interval,
    takeovers = takeovers + CASE WHEN leased_until IS NULL THEN 0 ELSE 1 END
WHERE id = (
    SELECT r.id FROM media_runs r
    WHERE r.finished_at IS NULL AND r.media_id IS NOT NULL
        AND ({_IS_LEASED.format(row="r")}) IS NOT TRUE
    ORDER BY r.state = 'waiting', (
        SELECT count(*) FROM media_runs b WHERE b.client_id = r.client_id AND b.finished_at IS NULL
            AND {_IS_LEASED.format(row="b")}), r.created_at, r.id
    LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING *
"""  # noqa: S608 (constants)
_RENEW = """
UPDATE media_runs SET leased_until = clock_timestamp() + $3::interval
WHERE id = $1 AND owner = $2 AND finished_at IS NULL RETURNING id
"""
_RELEASE = "UPDATE media_runs SET leased_until = NULL WHERE id = $1 AND owner = $2 AND finished_at IS NULL"
_MEDIUM = """
UPDATE media_runs SET medium_uri = $3, medium_sha256 = $4, medium_bytes = $5, medium_type = $6
WHERE id = $1 AND owner = $2 AND finished_at IS NULL RETURNING id
"""
_DURATION = "UPDATE media_runs SET duration_s = $3 WHERE id = $1 AND owner = $2 RETURNING id"
_READ = "UPDATE media_runs SET is_read = TRUE WHERE id = $1 AND owner = $2 RETURNING id"
_SECRETS = "SELECT source, token, refresh_token FROM media_runs WHERE id = $1"
_ADD_FRAME = """
INSERT INTO media_frames (run_id, position, frame_id, device_id, captured_at, video_time_s, image_uri, sha256,
    size_bytes, media_type, width, height, camera)
SELECT $1, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14
FROM media_runs WHERE id = $1 AND ($2::uuid IS NULL OR owner = $2) AND finished_at IS NULL
ON CONFLICT DO NOTHING
"""
_PROGRESS = "SELECT count(*) AS frames, max(captured_at) AS last_at FROM media_frames WHERE run_id = $1"
_HAS_ROOM = "SELECT count(*) < $2 FROM media_frames WHERE run_id = $1 AND status IN ('queued', 'published')"
# Positions have no gaps, so the number of events is the position of the first frame without one.
_ALL_SAID = """
SELECT NOT EXISTS (SELECT FROM media_frames f WHERE f.run_id = r.id AND f.position >= r.events)
FROM media_runs r WHERE r.id = $1
"""
_LOCK_RUN = (
    "SELECT events, percent, duration_s FROM media_runs WHERE id = $1 AND owner = $2 AND finished_at IS NULL FOR UPDATE"
)
# Up to the first frame that has no end yet: events are in the order of the frames.
_ENDED = """
SELECT position, video_time_s FROM media_frames
WHERE run_id = $1 AND position >= $2 AND position < coalesce(
    (SELECT min(position) FROM media_frames WHERE run_id = $1 AND status IN ('queued', 'published')), 2147483647)
ORDER BY position LIMIT 500
"""
_NUMBER = """
UPDATE media_frames AS f SET event = n.event, percent = n.percent
FROM unnest($2::int[], $3::int[], $4::int[]) AS n (position, event, percent)
WHERE f.run_id = $1 AND f.position = n.position
"""
_COUNTED = "UPDATE media_runs SET events = $2, percent = $3 WHERE id = $1"
_FAILURE_OF_ALL = """
SELECT error_code, error_message FROM media_frames WHERE run_id = $1 AND status = 'failed'
    AND NOT EXISTS (SELECT FROM media_frames WHERE run_id = $1 AND status = 'detected')
ORDER BY position LIMIT 1
"""
# Where what was found is posted, the tokens are kept until it is: see _FORGET_TOKENS.
_END = """
UPDATE media_runs SET state = $3::varchar, finished_at = clock_timestamp(),
    percent = CASE WHEN $3::varchar = 'processed' THEN 100 ELSE percent END,
    error_code = $4, error_message = $5, source = NULL, token = CASE WHEN annotate THEN token END,
    refresh_token = CASE WHEN annotate THEN refresh_token END, refresh_at = CASE WHEN annotate THEN refresh_at END,
    owner = NULL, leased_until = NULL
WHERE id = $1 AND owner = $2 AND finished_at IS NULL RETURNING id
"""
_FORGET_TOKENS = f"""
UPDATE media_runs r SET token = NULL, refresh_token = NULL, refresh_at = NULL
WHERE r.finished_at IS NOT NULL AND r.token IS NOT NULL AND (
    {is_older("r.finished_at", "$1::interval")}
    OR NOT EXISTS (
        SELECT FROM media_frames f WHERE f.run_id = r.id AND f.status = 'detected'
            AND NOT EXISTS (SELECT FROM annotation_posts p WHERE p.run_id = f.run_id AND p.frame_id = f.frame_id)
    )
)
"""  # noqa: S608 (constants)
_FRAME_END = "SELECT status, session_id, error_code, error_message FROM media_frames WHERE run_id = $1"
_FOUND = """
SELECT session_id, label, class_id, confidence, bbox_x1, bbox_y1, bbox_x2, bbox_y2 FROM detections
WHERE session_id = ANY($1::uuid[]) ORDER BY confidence DESC, id
"""
_FORGET = "DELETE FROM media_runs WHERE id = $1"


@dataclass(frozen=True, slots=True)
class Medium:
    """Says where the bytes of a medium are in the frame store."""

    uri: str
    sha256: str
    size_bytes: int
    media_type: str


@dataclass(frozen=True, slots=True)
class Secrets:
    """Holds what a caller entrusts while its medium is worked on, encrypted."""

    source: bytes | None = None
    token: bytes | None = None
    refresh_token: bytes | None = None
    refresh_at: datetime | None = None
    annotate: bool = False
    """Whether what is found is posted with the token"""


@dataclass(frozen=True, slots=True)
class Run:
    """Is a medium that this process works on."""

    id: UUID
    media_id: str
    client_id: str
    config: MediaConfig
    created_at: datetime
    medium: Medium | None
    is_read: bool
    takeovers: int
    """How often a process that worked at it has ended without giving it back"""

    @classmethod
    def of(cls, row: Any) -> Run:
        """Return the medium in a row of ``media_runs``."""
        medium = None
        if row["medium_uri"] is not None:
            medium = Medium(row["medium_uri"], row["medium_sha256"], row["medium_bytes"], row["medium_type"])
        config = MediaConfig.model_validate_json(row["config"])
        names = "id", "media_id", "client_id", "created_at", "is_read", "takeovers"
        return cls(config=config, medium=medium, **{name: row[name] for name in names})


@dataclass(frozen=True, slots=True)
class MediaFrame:
    """Is one picture of a medium, stored."""

    position: int
    frame_id: UUID
    device_id: str
    captured_at: datetime
    video_time_s: float | None
    image: Medium
    width: int
    height: int
    camera: CameraGeometry | None


@dataclass(frozen=True, slots=True)
class Progress:
    """Says which frames of a medium have rows: the first ones."""

    frames: int
    last_at: datetime | None
    """The capture time of the last of them"""


async def add_run(
    connection: Connection,
    run: UUID,
    client_id: str,
    media_id: str,
    config: MediaConfig,
    secrets: Secrets,
    medium: Medium | None,
    most: int,
) -> None:
    """Write a medium that waits, in a transaction. Raises MediaRunningError and TooManyMediaError."""
    await connection.execute(_LOCK_CLIENT, client_id)
    if await connection.fetchrow(_RUNNING, client_id, media_id) is not None:
        raise MediaRunningError(
            f"{media_id!r} is being detected already", details="Watch its events: GET /detect/{media_id}/stream."
        )
    count = await connection.fetchval(_COUNT, client_id)
    if count >= most:
        raise TooManyMediaError(
            f"this client has {count} media that have not ended; at most {most} are kept (media.max_waiting)",
            details="Wait until some have ended.",
        )
    await _insert(connection, run, client_id, media_id, "waiting", config, secrets, medium)


async def add_direct(connection: Connection, run: UUID, client_id: str, config: MediaConfig) -> datetime:
    """Write the run of a picture whose request waits for the answer; return when it was made."""
    return await _insert(connection, run, client_id, None, "processing", config, Secrets(), None)


async def _insert(
    connection: Connection,
    run: UUID,
    client_id: str,
    media_id: str | None,
    state: str,
    config: MediaConfig,
    secrets: Secrets,
    medium: Medium | None,
) -> datetime:
    where = (medium.uri, medium.sha256, medium.size_bytes, medium.media_type) if medium else (None,) * 4
    created_at: datetime = await connection.fetchval(
        _INSERT,
        *(run, client_id, media_id, state, config.model_dump_json(exclude_none=True, ensure_ascii=True)),
        *(secrets.source, secrets.token, secrets.refresh_token, secrets.refresh_at),
        *where,
        secrets.annotate,
    )
    return created_at


async def claim_run(connection: Connection, owner: UUID, lease_s: float, most: int) -> Run | None:
    """Take the medium whose turn it is, in a transaction; None while ``most`` are worked on, or none waits."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _CLAIM_LOCK)
    if await connection.fetchval(_BUSY) >= most:
        return None
    row = await connection.fetchrow(_CLAIM, owner, timedelta(seconds=lease_s))
    return None if row is None else Run.of(row)


async def renew_lease(connection: Connection, run: UUID, owner: UUID, lease_s: float) -> None:
    """Keep the medium for ``owner``. Raises LeaseLostError when it is another's."""
    _require(await connection.fetchval(_RENEW, run, owner, timedelta(seconds=lease_s)))


async def release_run(connection: Connection, run: UUID, owner: UUID) -> None:
    """Let another process go on at once."""
    await connection.execute(_RELEASE, run, owner)


async def set_medium(connection: Connection, run: UUID, owner: UUID, medium: Medium) -> None:
    """Write where the bytes are. Raises LeaseLostError."""
    where = medium.uri, medium.sha256, medium.size_bytes, medium.media_type
    _require(await connection.fetchval(_MEDIUM, run, owner, *where))


async def set_duration(connection: Connection, run: UUID, owner: UUID, duration_s: float | None) -> None:
    """Write how long a video says that it is. Raises LeaseLostError."""
    _require(await connection.fetchval(_DURATION, run, owner, duration_s))


async def set_read(connection: Connection, run: UUID, owner: UUID) -> None:
    """Write that all frames have a row. Raises LeaseLostError."""
    _require(await connection.fetchval(_READ, run, owner))


async def secrets_of_run(connection: Connection, run: UUID) -> Secrets:
    """Return the address of the bytes, the token that is valid now, and what refreshes it."""
    row: Any = await connection.fetchrow(_SECRETS, run)
    return Secrets() if row is None else Secrets(row["source"], row["token"], row["refresh_token"])


async def add_frame(connection: Connection, run: UUID, owner: UUID | None, frame: MediaFrame) -> None:
    """Write a frame that waits for its publishing; one that is there stays."""
    image, camera = frame.image, frame.camera
    await connection.execute(
        _ADD_FRAME,
        *(run, owner, frame.position, frame.frame_id, frame.device_id, frame.captured_at, frame.video_time_s),
        *(image.uri, image.sha256, image.size_bytes, image.media_type, frame.width, frame.height),
        None if camera is None else camera.model_dump_json(exclude_none=True),
    )


async def progress_of(connection: Connection, run: UUID) -> Progress:
    """Return which frames have rows."""
    row: Any = await connection.fetchrow(_PROGRESS, run)
    return Progress(**dict(row.items()))


async def say_ended(connection: Connection, run: UUID, owner: UUID) -> int:
    """Give frames that have an end their events, in a transaction; return how many. Raises LeaseLostError."""
    row: Any = await connection.fetchrow(_LOCK_RUN, run, owner)
    _require(row)
    ended: list[Any] = await connection.fetch(_ENDED, run, row["events"])
    if not ended:
        return 0
    percents, percent = [], row["percent"]
    for each in ended:
        if row["duration_s"] and each["video_time_s"] is not None:
            # Not 100 before the end.
            percent = max(percent, min(99, int(100 * each["video_time_s"] / row["duration_s"])))
        percents.append(percent)
    first, last = row["events"] + 1, row["events"] + len(ended)
    await connection.execute(_NUMBER, run, [each["position"] for each in ended], list(range(first, last + 1)), percents)
    await connection.execute(_COUNTED, run, last, percent)
    return len(ended)


async def failure_of_all(connection: Connection, run: UUID) -> tuple[str, str] | None:
    """Return code and message of the first frame that failed, if all of them have."""
    row = await connection.fetchrow(_FAILURE_OF_ALL, run)
    return None if row is None else (row["error_code"], row["error_message"])


async def has_room(connection: Connection, run: UUID, window: int) -> bool:
    """Return whether fewer than ``window`` frames have no end yet."""
    return bool(await connection.fetchval(_HAS_ROOM, run, window))


async def is_all_said(connection: Connection, run: UUID) -> bool:
    """Return whether all frames have their events."""
    return bool(await connection.fetchval(_ALL_SAID, run))


async def end_run(connection: Connection, run: UUID, owner: UUID, error: tuple[str, str] | None) -> bool:
    """Write the end, and remove the secrets that are no longer needed; return whether it was still ``owner``'s."""
    state = "processed" if error is None else "error"
    code, message = error or (None, None)
    return await connection.fetchval(_END, run, owner, state, code, message and message[:4_000]) is not None


async def forget_tokens(connection: Connection, keep: timedelta) -> int:
    """Remove the tokens of ended runs whose detections are posted, or for which ``keep`` is over; return how many."""
    return rows_changed(await connection.execute(_FORGET_TOKENS, keep))


async def frame_end(connection: Connection, run: UUID) -> Mapping[str, Any] | None:
    """Return the row of the one frame of a run."""
    row = await connection.fetchrow(_FRAME_END, run)
    return None if row is None else dict(row.items())


async def found_in(connection: Connection, sessions: Sequence[UUID]) -> dict[UUID, list[Any]]:
    """Return the rows of detections by session, the best score first."""
    found: dict[UUID, list[Any]] = {session: [] for session in sessions}
    for row in await connection.fetch(_FOUND, list(found)):
        found[row["session_id"]].append(row)
    return found


async def forget_run(connection: Connection, run: UUID) -> None:
    """Remove a run and its frames."""
    await connection.execute(_FORGET, run)


def _require(found: object) -> None:
    if found is None:
        raise LeaseLostError("another process works on this medium now")

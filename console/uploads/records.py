"""Reads and writes the rows of uploads and their files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from console.http.connection import request_connection
from console.ids import is_id
from console.parts import ConsoleParts
from infra.database.pool import Connection
from infra.database.transaction import transaction
from infra.http_api.errors.api_errors import UploadTimeoutError
from schemas.events import ImageRef
from schemas.geometry import CameraGeometry

_OPEN = """
SELECT count(*) FROM uploads u
WHERE client_id = $1 AND removed_at IS NULL AND expires_at > now()
    AND NOT EXISTS (SELECT FROM jobs WHERE jobs.upload_id = u.id)
"""
_BEGIN = "INSERT INTO uploads (id, upload_id, client_id, expires_at) VALUES ($1, $2, $3, now() + $4)"
_ADD = """
INSERT INTO uploaded_files (id, file_id, upload_id, position, filename, size_bytes, media_type, width, height, sha256,
    image_uri, captured_at, camera)
SELECT $1::uuid, $2::varchar, id, $4::int, $5::varchar, $6::bigint, $7::varchar, $8::int, $9::int, $10::varchar,
    $11::varchar, $12::timestamptz, $13::jsonb
FROM uploads WHERE id = $3 FOR KEY SHARE RETURNING id
"""
_COMPLETE = "UPDATE uploads SET completed_at = now() WHERE id = $1 AND completed_at IS NULL RETURNING expires_at"
# An upload that was given up is removed with those that were cut off.
_SEEN = "completed_at IS NOT NULL AND client_id = $1"
_FIND = f"""
SELECT id, upload_id, created_at, expires_at, removed_at FROM uploads
WHERE {_SEEN} AND upload_id = $2 AND removed_at IS NULL AND expires_at > now()
"""  # noqa: S608 - constants
_FILES = "SELECT * FROM uploaded_files WHERE upload_id = $1 ORDER BY position"
_FIND_FILE = f"""
SELECT f.*, u.removed_at, u.expires_at <= now() AS expired FROM uploaded_files f JOIN uploads u ON u.id = f.upload_id
WHERE {_SEEN} AND f.file_id = $2
"""  # noqa: S608 - constants
_IN_USE = "SELECT job_id FROM jobs WHERE upload_id = $1 AND finished_at IS NULL LIMIT 1"
_LOCK = f"SELECT id FROM uploads WHERE {_SEEN} AND upload_id = $2 AND removed_at IS NULL FOR UPDATE"  # noqa: S608
_EXPIRE = "UPDATE uploads SET expires_at = now() WHERE id = $1"


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """Is one picture of an upload, as it was recognised by its content."""

    id: UUID
    file_id: str
    filename: str
    image: ImageRef
    captured_at: datetime
    """From its metadata; without it the time of the upload"""
    camera: CameraGeometry | None

    @classmethod
    def of(cls, row: Any) -> UploadedFile:
        """Return the file in a row of ``uploaded_files``."""
        image = ImageRef(
            uri=row["image_uri"],
            sha256=row["sha256"],
            size_bytes=row["size_bytes"],
            media_type=row["media_type"],
            width=row["width"],
            height=row["height"],
        )
        camera = None if row["camera"] is None else CameraGeometry.model_validate_json(row["camera"])
        return cls(row["id"], row["file_id"], row["filename"], image, row["captured_at"], camera)


@dataclass(frozen=True, slots=True)
class UploadRow:
    """Is one upload that can be used."""

    id: UUID
    upload_id: str
    created_at: datetime
    expires_at: datetime


class UploadRecords:
    """Holds uploads in the database. All methods raise the errors of :meth:`infra.database.pool.Database.acquire`."""

    def __init__(self, parts: ConsoleParts) -> None:
        self._parts = parts

    async def count_unused(self, client_id: str) -> int:
        """Return how many uploads of the client no job has used yet."""
        async with request_connection(self._parts) as connection:
            return int(await connection.fetchval(_OPEN, client_id))

    async def begin(self, upload: UUID, upload_id: str, client_id: str, keep: timedelta) -> None:
        """Write an upload that is not complete yet, so that what it stores is found when it is never completed."""
        async with request_connection(self._parts, writing=True) as connection:
            await connection.execute(_BEGIN, upload, upload_id, client_id, keep)

    async def add(self, upload: UUID, position: int, file: UploadedFile) -> None:
        """Write one file of an upload; its bytes are stored. Raises UploadTimeoutError when the upload was removed."""
        image = file.image
        async with request_connection(self._parts, writing=True) as connection:
            written = await connection.fetchval(
                _ADD,
                file.id,
                file.file_id,
                upload,
                position,
                file.filename,
                image.size_bytes,
                image.media_type,
                image.width,
                image.height,
                image.sha256,
                image.uri,
                file.captured_at,
                None if file.camera is None else file.camera.model_dump_json(exclude_none=True),
            )
        if written is None:
            raise _removed()

    async def complete(self, upload: UUID) -> datetime:
        """Make the upload visible; return when it expires. Raises UploadTimeoutError when it was removed."""
        async with request_connection(self._parts, writing=True) as connection:
            expires_at: datetime | None = await connection.fetchval(_COMPLETE, upload)
        if expires_at is None:
            raise _removed()
        return expires_at

    async def find(self, client_id: str, upload_id: str) -> tuple[UploadRow, Sequence[UploadedFile]] | None:
        """Return an upload of the client with its files, unless it has expired."""
        if not is_id(upload_id, "upl"):
            return None
        async with request_connection(self._parts) as connection:
            row = await connection.fetchrow(_FIND, client_id, upload_id)
            if row is None:
                return None
            files = [UploadedFile.of(each) for each in await connection.fetch(_FILES, row["id"])]
        return UploadRow(row["id"], row["upload_id"], row["created_at"], row["expires_at"]), files

    async def find_file(self, client_id: str, file_id: str) -> tuple[UploadedFile, bool] | None:
        """Return a file of the client, and whether its bytes are there no more."""
        if not is_id(file_id, "img"):
            return None
        async with request_connection(self._parts) as connection:
            row = await connection.fetchrow(_FIND_FILE, client_id, file_id)
        return None if row is None else (UploadedFile.of(row), row["removed_at"] is not None or row["expired"])

    async def expire(self, client_id: str, upload_id: str) -> str | None:
        """End an upload of the client now; return the job that still uses it, then nothing was changed.

        Raises LookupError when the client has no such upload.
        """
        if not is_id(upload_id, "upl"):
            raise LookupError(upload_id)
        async with request_connection(self._parts, writing=True) as connection, transaction(connection):
            upload = await connection.fetchval(_LOCK, client_id, upload_id)
            if upload is None:
                raise LookupError(upload_id)
            job: str | None = await connection.fetchval(_IN_USE, upload)
            if job is None:
                await connection.execute(_EXPIRE, upload)
            return job


def _removed() -> UploadTimeoutError:
    return UploadTimeoutError(
        "the upload took so long that it was removed as one that was cut off; nothing of it was kept",
        details="Send it again, over a faster connection or with fewer files at once.",
    )


async def take_expired(connection: Connection, min_age: timedelta, longest: timedelta, most: int) -> Sequence[UUID]:
    """Return uploads whose bytes are to be removed, locked until the transaction ends; none while another one takes.

    Those that have expired and that no job uses any more, and those that were never completed; none is younger than
    ``min_age``, and none of those that may still be received: that takes at most ``longest``.
    """
    if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", _RETENTION_LOCK):
        return []
    rows = await connection.fetch(_EXPIRED, min_age, longest, most)
    return [row["id"] for row in await connection.fetch(_UNUSED, [row["id"] for row in rows])]


async def removable_files(connection: Connection, upload: UUID) -> Sequence[str]:
    """Return the addresses of the bytes of an upload that no device's frame, medium or other upload needs."""
    return [row["image_uri"] for row in await connection.fetch(_REMOVABLE, upload)]


async def strike_out(connection: Connection, upload: UUID) -> None:
    """Keep that the bytes of an upload are removed; of one that no job has used, nothing is kept."""
    await connection.execute(_MARK, upload)
    await connection.execute(_FORGET, upload)


# Two that remove uploads with equal bytes at the same time would both leave them to the other.
_RETENTION_LOCK = 0x53746767557052
_EXPIRED = """
SELECT id FROM uploads u
WHERE removed_at IS NULL AND created_at <= now() - $1::interval
    AND (expires_at <= now() AND completed_at IS NOT NULL
        OR completed_at IS NULL AND created_at <= now() - $1::interval - $2::interval)
    AND NOT EXISTS (SELECT FROM jobs WHERE jobs.upload_id = u.id AND finished_at IS NULL)
ORDER BY expires_at LIMIT $3 FOR UPDATE SKIP LOCKED
"""
# Asked once they are locked: a job may have come after the first statement had looked for some.
_UNUSED = """
SELECT id FROM unnest($1::uuid[]) AS u (id)
WHERE NOT EXISTS (SELECT FROM jobs WHERE jobs.upload_id = u.id AND finished_at IS NULL)
"""
_MARK = "UPDATE uploads SET removed_at = now() WHERE id = $1"
_FORGET = "DELETE FROM uploads WHERE id = $1 AND NOT EXISTS (SELECT FROM jobs WHERE jobs.upload_id = uploads.id)"
_REMOVABLE = """
SELECT DISTINCT image_uri FROM uploaded_files f
WHERE upload_id = $1
    AND NOT EXISTS (SELECT FROM images WHERE images.sha256 = f.sha256 AND images.job_id IS NULL)
    AND NOT EXISTS (SELECT FROM media_runs WHERE medium_sha256 = f.sha256 AND finished_at IS NULL)
    AND NOT EXISTS (
        SELECT FROM uploaded_files other JOIN uploads ON uploads.id = other.upload_id
        WHERE other.sha256 = f.sha256 AND other.upload_id <> f.upload_id AND uploads.removed_at IS NULL
    )
"""

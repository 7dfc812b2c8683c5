"""Reads pages of the jobs of a client, and of the files of a job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import JsonValue

from console.http.errors import InvalidConfigError
from console.jobs.status import SELECT, JobRow, job_row
from infra.database.pool import Connection
from infra.texts import shortened

_PLACE = "SELECT created_at, id FROM jobs WHERE job_id = $1 AND client_id = $2"
# In the order of the index jobs_client; a job that is made meanwhile is on no later page.
_PAGE = f"""
{SELECT}
WHERE j.client_id = $1
    AND (cardinality($2::varchar[]) = 0 OR j.status = ANY($2))
    AND ($3::varchar IS NULL OR u.upload_id = $3)
    AND ($4::timestamptz IS NULL OR j.created_at >= $4)
    AND ($5::timestamptz IS NULL OR j.created_at < $5)
    AND ($6::timestamptz IS NULL OR (j.created_at <= $6 AND (j.created_at < $6 OR j.id > $7::uuid)))
ORDER BY j.created_at DESC, j.id LIMIT $8
"""
_FILES = """
SELECT f.position, u.file_id, u.filename, f.status, f.num_detections, f.error_code, f.error_message
FROM job_files AS f JOIN uploaded_files AS u ON u.id = f.file_id
WHERE f.job_id = $1 AND f.position > $2 ORDER BY f.position LIMIT $3
"""
_STATUS_FOR_CLIENTS = {"published": "processing"}


@dataclass(frozen=True, slots=True)
class Filters:
    """Says which jobs of a client are listed."""

    statuses: tuple[str, ...] = ()
    upload_id: str | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None


async def jobs_page(
    connection: Connection, client_id: str, filters: Filters, *, limit: int, before: str | None
) -> list[JobRow]:
    """Return at most ``limit`` jobs, the newest first, those before the job ``before``. Raises InvalidConfigError."""
    place: tuple[datetime, UUID] | tuple[None, None] = (None, None)
    if before is not None:
        row: Any = await connection.fetchrow(_PLACE, before, client_id)
        if row is None:
            raise InvalidConfigError.of("before", f"Must be the id of a job of yours; not {shortened(before, 60)}")
        place = (row["created_at"], row["id"])
    rows: Sequence[Any] = await connection.fetch(
        _PAGE,
        client_id,
        list(filters.statuses),
        filters.upload_id,
        filters.created_from,
        filters.created_to,
        *place,
        limit,
    )
    return [job_row(row) for row in rows]


async def files_page(connection: Connection, job: UUID, *, limit: int, after: int) -> dict[str, JsonValue]:
    """Return at most ``limit`` files of ``job``, those after the position ``after``."""
    rows: list[Any] = await connection.fetch(_FILES, job, after, limit)
    return {
        "files": [_file(row) for row in rows],
        "next_after": rows[-1]["position"] if len(rows) == limit else None,
    }


def _file(row: Any) -> JsonValue:
    status = row["status"]
    failed = status == "failed"
    return {
        "file_id": row["file_id"],
        "filename": row["filename"],
        "status": _STATUS_FOR_CLIENTS.get(status, status),
        "detection_count": row["num_detections"] if status == "completed" else None,
        "error": {"code": row["error_code"], "message": row["error_message"]} if failed else None,
    }

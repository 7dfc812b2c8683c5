"""Reads and writes the rows of inference jobs, their results, and uploaded pictures."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hmac import compare_digest
from typing import Any

from pydantic import ValidationError

from console.inference_jobs.bodies import InferenceJobBody, NewInferenceJob, PostedResults, ResultRow, TakenBody
from console.inference_jobs.errors import ForeignPathError, InferenceJobEndedError, job_not_found
from console.jobs.errors import TooManyJobsError
from console.jobs.faults import config_error
from infra.database.pool import Connection
from infra.encryption.box import SecretBox
from infra.http_api.errors.api_errors import UnauthorizedError
from infra.storage.s3_address import S3Address
from schemas.timestamps import utc_now

PURPOSE = "inference-callback"
FOLDER = "inference"
"""All pictures and results are below it in the bucket, each in the folder of its job"""
_LONGEST_NAME = 200
_COLUMNS = ", ".join(InferenceJobBody.model_fields)
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="standgale"'}

# The lock on the client makes two requests at once count one after the other.
_LOCK = "SELECT FROM api_clients WHERE client_id = $1 FOR NO KEY UPDATE"
_COUNT_OPEN = "SELECT count(*) FROM inference_jobs WHERE client_id = $1 AND completed_at IS NULL"
_INSERT = f"""
INSERT INTO inference_jobs (id, training_job_id, checkpoint_path, inference_type, input_data, client_id, callback_token)
VALUES (coalesce($1::integer, nextval('inference_job_ids')), $2, $3, $4, $5, $6, $7) RETURNING {_COLUMNS}
"""  # noqa: S608 (constants)
_ONE = f"SELECT {_COLUMNS} FROM inference_jobs WHERE client_id = $1 AND id = $2"  # noqa: S608 (constants)
_PAGE = """
SELECT id, inference_job_id, image_path, image_name, predictions, inference_time_ms, num_detections, error_message,
    created_at
FROM inference_results WHERE inference_job_id = $1 AND id > $2 ORDER BY id LIMIT $3
"""
_OWNERS = """
SELECT id, client_id, true AS is_job FROM inference_jobs WHERE id = ANY($1)
UNION ALL SELECT id, client_id, false FROM inference_uploads WHERE id = ANY($1)
"""
_FOR_UPDATE = "SELECT status, callback_token FROM inference_jobs WHERE id = $1 FOR UPDATE"
_END = """
UPDATE inference_jobs SET status = $2, error_message = $3, total_images = $4, total_inference_time_ms = $5,
    avg_inference_time_ms = $6, completed_at = now(), started_at = coalesce(started_at, now()), runner = NULL,
    leased_until = NULL
WHERE id = $1
"""
_COUNT_UPLOADS = "SELECT count(*) FROM inference_uploads WHERE client_id = $1"
_RESERVE = """
INSERT INTO inference_uploads (id, client_id, expires_at) VALUES (nextval('inference_job_ids'), $1, now() + $2)
RETURNING id
"""
_KEEP_UPLOAD = "UPDATE inference_uploads SET expires_at = now() + $2 WHERE id = $1 RETURNING expires_at"
_USE = "DELETE FROM inference_uploads WHERE id = $1 AND client_id = $2"
_EXPIRED = (
    "SELECT id FROM inference_uploads WHERE expires_at < now() ORDER BY expires_at FOR UPDATE SKIP LOCKED LIMIT $1"
)
_STRIKE_OUT = "DELETE FROM inference_uploads WHERE id = ANY($1)"


@dataclass(frozen=True, slots=True)
class ParsedResults:
    """Holds the body of a call-back, and its rows."""

    posted: PostedResults
    rows: Sequence[tuple[Any, ...]]


async def add_job(
    connection: Connection, box: SecretBox, client_id: str, asked: NewInferenceJob, bucket: str, most_open: int
) -> InferenceJobBody:
    """Keep a new job in a transaction of ``connection``. Raises TooManyJobsError and ForeignPathError.

    A job of pictures that were uploaded for one gets the id of their folder.
    """
    await connection.execute(_LOCK, client_id)
    if await connection.fetchval(_COUNT_OPEN, client_id) >= most_open:
        raise TooManyJobsError(
            f"this client has {most_open} inference jobs that have not ended, the most there may be "
            "(console.max_open_jobs)",
            details="Wait until some have ended.",
        )
    addresses = [S3Address.parse(path) for path in asked.input_data.image_paths]
    if asked.checkpoint_path.startswith("s3://"):
        await _upload_of(connection, client_id, [S3Address.parse(asked.checkpoint_path)], bucket)
    upload = await _upload_of(connection, client_id, addresses, bucket)
    if upload is not None:
        await connection.execute(_USE, upload, client_id)
    row = await connection.fetchrow(
        _INSERT,
        upload,
        asked.training_job_id,
        asked.checkpoint_path,
        asked.inference_type,
        asked.input_data.model_dump_json(),
        client_id,
        box.encrypt(secrets.token_urlsafe(32), PURPOSE),
    )
    assert row is not None
    return _job(row)


async def find_job(connection: Connection, client_id: str, job_id: int) -> InferenceJobBody:
    """Return a job of the client. Raises InferenceJobNotFoundError."""
    row = await connection.fetchrow(_ONE, client_id, job_id)
    if row is None:
        raise job_not_found(job_id)
    return _job(row)


async def find_results(
    connection: Connection, client_id: str, job_id: int, after: int, most: int
) -> Sequence[ResultRow]:
    """Return results of a job of the client, those with ids above ``after``. Raises InferenceJobNotFoundError."""
    await find_job(connection, client_id, job_id)
    rows = await connection.fetch(_PAGE, job_id, after, most)
    return [ResultRow(**{**row, "predictions": json.loads(row["predictions"])}) for row in rows]


async def check_token(connection: Connection, box: SecretBox, job_id: int, token: str) -> str:
    """Return the status of the job when ``token`` is its secret; its row is locked until the transaction ends.

    Raises InferenceJobNotFoundError and UnauthorizedError.
    """
    row = await connection.fetchrow(_FOR_UPDATE, job_id)
    if row is None:
        raise job_not_found(job_id)
    if not compare_digest(box.decrypt(row["callback_token"], PURPOSE).encode(), token.encode()):
        raise UnauthorizedError(
            f"the token is not that of inference job {job_id}",
            details="Send what the process of the job has in CALLBACK_TOKEN, as Authorization: Bearer.",
            headers=_CHALLENGE,
        )
    return str(row["status"])


def parse_results(body: bytes, job_id: int) -> ParsedResults:
    """Return what a call-back posted, ready to be written; blocks. Raises InvalidConfigError for what is wrong."""
    try:
        posted = PostedResults.model_validate_json(body)
    except ValidationError as error:
        # As FastAPI lists them: the first part says where the value was.
        raise config_error([{**each, "loc": ("body", *each["loc"])} for each in error.errors()]) from error
    return ParsedResults(posted, list(_rows(job_id, posted)))


async def take_results(connection: Connection, job_id: int, status: str, parsed: ParsedResults) -> TakenBody:
    """Write the end of a job whose row is locked and has ``status``. Raises InferenceJobEndedError.

    The same end once more changes nothing.
    """
    posted = parsed.posted
    if status in ("completed", "failed"):
        if status != posted.status:
            raise InferenceJobEndedError(
                f"inference job {job_id} is {status}, and stays so", details="Ask for a new job with the same pictures."
            )
        return TakenBody(id=job_id, status=posted.status, changed=False)
    await connection.copy_records_to_table(
        "inference_results",
        records=parsed.rows,
        columns=(
            *("inference_job_id", "image_path", "image_name", "predictions", "inference_time_ms", "num_detections"),
            "error_message",
        ),
    )
    total_ms = posted.total_inference_time_ms
    if total_ms is None:
        total_ms = sum(each.inference_time_ms or 0.0 for each in posted.results)
    count = len(posted.results)
    average = total_ms / count if count else None
    await connection.execute(_END, job_id, posted.status, _stored(posted.error_message), count, total_ms, average)
    return TakenBody(id=job_id, status=posted.status, changed=True)


async def reserve_upload(connection: Connection, client_id: str, keep: timedelta) -> int:
    """Keep an id for a job to come, in whose folder pictures are put; return it. After ``keep`` they expire."""
    return int(await connection.fetchval(_RESERVE, client_id, keep))


async def keep_upload(connection: Connection, upload: int, keep: timedelta) -> datetime:
    """Let an upload that is complete expire only after ``keep``; return when that is."""
    expires_at: datetime | None = await connection.fetchval(_KEEP_UPLOAD, upload, keep)
    # A job may have it already; its pictures stay.
    return expires_at or utc_now() + keep


async def count_uploads(connection: Connection, client_id: str) -> int:
    """Return how many uploads of the client no job has used."""
    return int(await connection.fetchval(_COUNT_UPLOADS, client_id))


async def take_expired(connection: Connection, most: int) -> list[int]:
    """Lock uploads that have expired until the transaction ends; return their ids."""
    return [row["id"] for row in await connection.fetch(_EXPIRED, most)]


async def strike_out(connection: Connection, uploads: Sequence[int]) -> None:
    """Forget uploads whose pictures were removed."""
    await connection.execute(_STRIKE_OUT, list(uploads))


async def _upload_of(connection: Connection, client_id: str, addresses: Sequence[S3Address], bucket: str) -> int | None:
    """Return the id of the upload that has all ``addresses``; None where there is no such one.

    Raises ForeignPathError for folders of jobs and uploads of others, and for folders above them.
    """
    inside = [address for address in addresses if address.bucket == bucket and _reaches_jobs(address)]
    ids = {_job_id_in(address) for address in inside}
    owners = {row["id"]: row for row in await connection.fetch(_OWNERS, [each for each in ids if each is not None])}
    for address in inside:
        number = _job_id_in(address)
        if number not in owners or owners[number]["client_id"] != client_id:
            raise ForeignPathError(
                f"{address}: is not a folder of your uploads or jobs",
                details="Name pictures that POST /api/v1/test_inference/inference/images returned, or those outside "
                f"of s3://{bucket}/{FOLDER}/.",
                field="input_data.image_paths",
            )
    if len(ids) == 1 and len(inside) == len(addresses):
        (only,) = ids
        return None if only is None or owners[only]["is_job"] else only
    return None


def _reaches_jobs(address: S3Address) -> bool:
    """Whether the address is inside the folder of all jobs, or names a folder around it."""
    whole = f"{FOLDER}/"
    return address.key.startswith(whole) or (address.is_folder and whole.startswith(address.key))


def _job_id_in(address: S3Address) -> int | None:
    number, slash, _ = address.key.removeprefix(f"{FOLDER}/").partition("/")
    return int(number) if slash and number.isascii() and number.isdecimal() and len(number) < 10 else None


def _rows(job_id: int, posted: PostedResults) -> Iterator[tuple[Any, ...]]:
    for each in posted.results:
        name = each.image_path.rpartition("/")[2][:_LONGEST_NAME]
        predictions = json.dumps([one.model_dump(mode="json") for one in each.predictions])
        error = _stored(each.error_message)
        yield job_id, each.image_path, name, predictions, each.inference_time_ms, len(each.predictions), error


def _stored(text: str | None) -> str | None:
    """Return ``text`` without what PostgreSQL cannot hold."""
    return None if text is None else text.replace("\0", "").encode("utf-8", "replace").decode()


def _job(row: Any) -> InferenceJobBody:
    return InferenceJobBody(**{**row, "input_data": json.loads(row["input_data"])})

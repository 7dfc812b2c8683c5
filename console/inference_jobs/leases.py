"""Claims inference jobs for one console, keeps them, and gives them back or ends them."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from console.inference_jobs.records import FOLDER, PURPOSE
from infra.database.clock_tests import is_over
from infra.database.pool import Connection
from infra.encryption.box import SecretBox, SecretUnreadableError

# A job that was given back has no lease.
_IS_OVER = is_over("leased_until", "greatest(10 * $2::interval, '2 hours')")
_FREE = f"completed_at IS NULL AND (leased_until IS NULL OR {_IS_OVER})"
_CLAIM = f"""
UPDATE inference_jobs SET status = 'running', started_at = coalesce(started_at, now()), attempts = attempts + 1,
    runner = $1, leased_until = now() + $2::interval
WHERE id IN (
    SELECT id FROM inference_jobs WHERE {_FREE} AND attempts < $4 ORDER BY id FOR UPDATE SKIP LOCKED LIMIT $3
)
RETURNING id, checkpoint_path, input_data, callback_token, attempts
"""  # noqa: S608 (constants)
_GIVE_UP = f"""
UPDATE inference_jobs SET status = 'failed', completed_at = now(), runner = NULL, leased_until = NULL,
    error_message = coalesce(error_message, 'its process was lost with its console')
        || '; it was started ' || attempts || ' times (inference_jobs.attempts)'
WHERE {_FREE} AND attempts >= $1 RETURNING id
"""  # noqa: S608 (constants)
_KEEP = """
UPDATE inference_jobs SET leased_until = now() + $3::interval
WHERE id = ANY($2) AND runner = $1 AND completed_at IS NULL RETURNING id
"""
_GIVE_BACK = """
UPDATE inference_jobs SET leased_until = NULL, runner = NULL, error_message = coalesce($3, error_message),
    attempts = attempts - $4
WHERE id = $2 AND runner = $1 AND completed_at IS NULL
"""
_FAIL = """
UPDATE inference_jobs SET status = 'failed', completed_at = now(), runner = NULL, leased_until = NULL,
    error_message = $3
WHERE id = $2 AND runner = $1 AND completed_at IS NULL
"""


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """Is a job that this console runs."""

    id: int
    attempt: int
    variables: Mapping[str, str]
    """The environment of its process, without where the S3 server is"""


class JobLeases:
    """Reads and writes who runs which job, for one console."""

    def __init__(self, runner: UUID, box: SecretBox, lease_s: float, attempts: int, bucket: str) -> None:
        self._runner = runner
        self._box = box
        self._lease = timedelta(seconds=lease_s)
        self._attempts = attempts
        self._bucket = bucket

    async def claim(self, connection: Connection, most: int, base_url: str) -> Sequence[ClaimedJob]:
        """Take jobs that nobody runs, the oldest first; they are running from then on.

        One whose secret cannot be read ends as failed.
        """
        claimed: list[ClaimedJob] = []
        for row in await connection.fetch(_CLAIM, self._runner, self._lease, most, self._attempts):
            try:
                claimed.append(ClaimedJob(row["id"], row["attempts"], self._variables(row, base_url)))
            except SecretUnreadableError as error:
                await self.fail(connection, row["id"], str(error))
        return claimed

    async def give_up(self, connection: Connection) -> Sequence[int]:
        """End jobs that nobody runs and that were started as often as they may be; return their ids."""
        return [row["id"] for row in await connection.fetch(_GIVE_UP, self._attempts, self._lease)]

    async def keep(self, connection: Connection, jobs: Collection[int]) -> set[int]:
        """Renew the lease of ``jobs``; return those that are still this console's and have not ended."""
        return {row["id"] for row in await connection.fetch(_KEEP, self._runner, list(jobs), self._lease)}

    async def give_back(self, connection: Connection, job: int, reason: str | None) -> None:
        """Let the job be started again; without a ``reason`` this start does not count."""
        await connection.execute(_GIVE_BACK, self._runner, job, reason, 1 if reason is None else 0)

    async def fail(self, connection: Connection, job: int, reason: str) -> None:
        """End the job as failed, unless its call-back came."""
        await connection.execute(_FAIL, self._runner, job, reason)

    def _variables(self, row: Any, base_url: str) -> Mapping[str, str]:
        job, data = row["id"], json.loads(row["input_data"])
        paths = data["image_paths"]
        return {
            "INFERENCE_JOB_ID": str(job),
            "CALLBACK_URL": f"{base_url}/api/v1/test_inference/inference/{job}/results",
            "CALLBACK_TOKEN": self._box.decrypt(row["callback_token"], PURPOSE),
            "IMAGE_PATHS": paths[0] if len(paths) == 1 else json.dumps(paths),
            "CHECKPOINT_PATH": row["checkpoint_path"],
            "OUTPUT_PATH": f"s3://{self._bucket}/{FOLDER}/{job}/results/",
            "CONFIDENCE_THRESHOLD": str(data["confidence_threshold"]),
            "IOU_THRESHOLD": str(data["iou_threshold"]),
            "MAX_DETECTIONS": str(data["max_detections"]),
        }

"""Makes the events of the frames of jobs."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from uuid import UUID

from pydantic import ValidationError

from console.jobs.config import KeptConfig
from console.jobs.options import detect_options, model_of
from console.jobs.queue import WaitingFile
from infra.broker.event_records import event_record
from infra.broker.port import OutRecord
from schemas.events import FrameCaptured
from schemas.topics import FRAMES_JOBS
from sinks.postgres.job_counts import SOURCE, FileFailure

logger = logging.getLogger(__name__)


UNREADABLE = "INFERENCE_ERROR"


def make_frames(
    files: Sequence[WaitingFile], configs: Mapping[UUID, str]
) -> tuple[list[tuple[WaitingFile, OutRecord]], list[FileFailure]]:
    """Return ``files`` with their records, and those of which none can be made; ``configs``: the options of jobs, JSON.

    Another version of the console may have written what this one cannot read; the jobs of others go on.
    """
    read: dict[UUID, KeptConfig | None] = {job: _config(text) for job, text in configs.items()}
    frames: list[tuple[WaitingFile, OutRecord]] = []
    failures: list[FileFailure] = []
    for file in files:
        config = read[file.job_id]
        record = None if config is None else _record(file, config)
        if record is None:
            text = "The options of the job, or the description of its file, are of another version of the service"
            failures.append(FileFailure(file.job_id, file.frame_id, UNREADABLE, text))
        else:
            frames.append((file, record))
    return frames, failures


def _config(text: str) -> KeptConfig | None:
    try:
        return KeptConfig.model_validate_json(text)
    except ValidationError as error:
        logger.error("the options of a job cannot be read: %s", error)
        return None


def _record(file: WaitingFile, config: KeptConfig) -> OutRecord | None:
    """Return the record of the frame of ``file``; that of a file that is published again is the same."""
    try:
        event = FrameCaptured.model_validate(
            {
                "frame_id": file.frame_id,
                "device_id": file.device_id,
                "captured_at": file.captured_at,
                "received_at": file.created_at,
                "image": {
                    "uri": file.image_uri,
                    "sha256": file.sha256,
                    "size_bytes": file.size_bytes,
                    "media_type": file.media_type,
                    "width": file.width,
                    "height": file.height,
                },
                "camera": None if file.camera is None else json.loads(file.camera),
                "original_filename": file.filename,
                "job_id": file.job_id,
                "options": detect_options(config.asked),
                "model": model_of(config.asked),
                "rules": config.rules,
            }
        )
    except ValidationError as error:
        logger.error("a file of a job cannot be published: %s", error)
        return None
    return event_record(
        FRAMES_JOBS, event, id=file.frame_id, source=SOURCE, subject=None, time=file.created_at, key=file.device_id
    )

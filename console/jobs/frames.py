"""Makes the events of the frames of jobs."""

from __future__ import annotations

import json
from uuid import UUID

from console.jobs.config import KeptConfig
from console.jobs.options import detect_options, model_of
from console.jobs.queue import WaitingFile
from infra.broker.event_records import event_record
from infra.broker.port import OutRecord
from schemas.events import FrameCaptured
from schemas.topics import FRAMES_JOBS
from sinks.postgres.job_counts import SOURCE


class JobFrames:
    """Makes the records of files; the options of each job are read once."""

    def __init__(self, configs: dict[UUID, str]) -> None:
        """``configs`` has the options of the jobs, as JSON."""
        self._configs = {job: KeptConfig.model_validate_json(text) for job, text in configs.items()}

    def record(self, file: WaitingFile) -> OutRecord:
        """Return the record of the frame of ``file``; that of a file that is published again is the same."""
        config = self._configs[file.job_id]
        reasoning = config.asked.symbolic_reasoning
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
                "use_rules": reasoning is None or reasoning.enabled,
            }
        )
        return event_record(
            FRAMES_JOBS,
            event,
            id=file.frame_id,
            source=SOURCE,
            subject=None,
            time=file.created_at,
            key=file.device_id,
        )

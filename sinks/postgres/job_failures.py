"""Turns the dead letters of frames, and of their detections, into the errors of a job's files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from uuid import UUID

from infra.failure.redrive import SINK_GROUPS
from schemas.events import DeadLetter, DetectionsMade, FrameCaptured
from sinks.postgres.dead_letters import original_of
from sinks.postgres.job_counts import FileFailure

MODEL_LOAD_ERROR = "MODEL_LOAD_ERROR"
INFERENCE_ERROR = "INFERENCE_ERROR"
STORAGE_ERROR = "STORAGE_ERROR"
FILE_ERROR = "FILE_ERROR"

_CODES: Mapping[str, str] = {
    "IMAGE_CORRUPT": FILE_ERROR,
    "IMAGE_MISSING": FILE_ERROR,
    "IMAGE_TOO_COSTLY": FILE_ERROR,
    "UNREADABLE_IMAGE": FILE_ERROR,
    "DECODER_ENDED": FILE_ERROR,
    "DECODER_OUT_OF_MEMORY": FILE_ERROR,
    "RECORD_TOO_LARGE": STORAGE_ERROR,
    "MODEL_LOAD_ERROR": MODEL_LOAD_ERROR,
    "MODEL_STORE_ERROR": MODEL_LOAD_ERROR,
    "MODEL_STORE_UNAVAILABLE": MODEL_LOAD_ERROR,
}
"""The codes of clients for the reasons of dead letters; any other is INFERENCE_ERROR."""
_ABOUT_THE_JOB = frozenset({*_CODES, "TOO_MANY_TILES", "OPTIONS_REFUSED", "DEADLINE_EXCEEDED"})
"""The reasons whose texts are about the file or what the job asks; others are the operator's."""
_RESULTS_GROUP = f"{SINK_GROUPS}postgres"
_PLACES = re.compile(r"\b(?:file|s3)://[^\s,;)]+|(?<![\w.:/])(?:/[\w.@~+-]+){2,}/?")
_LONGEST = 4_000


def failure_of(letter: DeadLetter) -> FileFailure | None:
    """Return the failure of a job's file that ``letter`` reports; None when it reports none.

    A dead letter of detections counts when they could not be written to PostgreSQL, where the results of jobs are.
    """
    if letter.group.startswith(SINK_GROUPS):
        made = original_of(letter, DetectionsMade) if letter.group == _RESULTS_GROUP else None
        if made is None or made.job_id is None:
            return None
        text = f"The result could not be stored; the operator finds the reason in dead letter {letter.id}"
        return _failure(made.job_id, made.frame_id, STORAGE_ERROR, text)
    frame = original_of(letter, FrameCaptured)
    if frame is None or frame.job_id is None:
        return None
    code = _CODES.get(letter.reason, INFERENCE_ERROR)
    if letter.reason in _ABOUT_THE_JOB:
        return _failure(frame.job_id, frame.frame_id, code, public_text(letter.message))
    text = f"The detectors failed at this file; the operator finds the reason in dead letter {letter.id}"
    return _failure(frame.job_id, frame.frame_id, code, text)


def public_text(message: str) -> str:
    """Return ``message`` without places of files and objects, which are the operator's."""
    return _PLACES.sub("…", message.replace("\0", ""))[:_LONGEST]


def _failure(job: UUID, frame: UUID, code: str, message: str) -> FileFailure:
    return FileFailure(job, frame, code, message)

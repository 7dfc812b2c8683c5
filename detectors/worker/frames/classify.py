"""Chooses what is to become of a record, before anything is taken for it: a pure function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from detectors.worker.frames.detections_event import answer_key
from detectors.worker.frames.lateness import Lateness, is_live
from detectors.worker.partitions.window import AnswerKey, DuplicateWindow
from detectors.worker.pipeline.serving import Served
from infra.broker.port import InRecord
from schemas.cloudevents import decode
from schemas.errors import EventError, EventVersionError
from schemas.events import FrameCaptured


@dataclass(frozen=True, slots=True)
class Invalid:
    """The record holds no frame."""

    error: EventError


@dataclass(frozen=True, slots=True)
class TooNew:
    """The record holds a frame of a newer version than this program can read."""

    error: EventVersionError


@dataclass(frozen=True, slots=True)
class Repeated:
    """The frame was answered, or is being answered."""

    answer: AnswerKey


@dataclass(frozen=True, slots=True)
class Late:
    """The frame's turn came ``late_s`` after its deadline, and late ones are not answered here."""

    late_s: float


@dataclass(frozen=True, slots=True)
class Wanted:
    """The frame is to be answered by ``served``, which gives ``answer``."""

    frame: FrameCaptured
    served: Served
    answer: AnswerKey


Choice = Invalid | TooNew | Repeated | Late | Wanted


def choose(
    record: InRecord,
    window: DuplicateWindow,
    lateness: Lateness,
    pick: Callable[[FrameCaptured], Served],
    now: datetime,
) -> Choice:
    """Say what is to become of ``record`` at ``now``; ``pick`` says which model a frame goes to. Changes nothing."""
    try:
        frame = decode(record.headers, record.value, FrameCaptured)
    except EventVersionError as error:
        return TooNew(error)
    except EventError as error:
        return Invalid(error)
    served = pick(frame)
    answer = answer_key(frame, served.model.card, live=is_live(record))
    # A late repetition of an answered frame is a repetition, so this comes first.
    if window.knows(answer):
        return Repeated(answer)
    late_s = lateness.late_by(record, frame, now)
    return Wanted(frame, served, answer) if late_s is None else Late(late_s)

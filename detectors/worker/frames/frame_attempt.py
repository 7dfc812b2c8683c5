"""How one frame is answered, in one try: fetch, detect, build the record; and the dead letter of one that fails."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from functools import partial

from detectors.metrics import (
    DETECTIONS_PER_IMAGE,
    DETECTIONS_TOO_LARGE,
    FRAME_LATENCY,
    INFERENCE_DURATION,
    INFERENCE_REQUESTS,
)
from detectors.worker.frames.detections_event import answer_for, answer_record, make_answer
from detectors.worker.partitions.partition_queue import Outcome
from detectors.worker.pipeline.serving import Served
from detectors.worker.quarantine.quarantine import Guarding
from infra.broker.port import InRecord, OutRecord
from infra.broker.sizes import record_bytes
from infra.errors import RecordTooLargeError
from infra.failure.dead_letter_records import dead_letter
from infra.failure.error_texts import error_code, error_text
from infra.storage.frames.port import FrameStore
from schemas import topics
from schemas.events import DetectionsMade, FrameCaptured
from schemas.timestamps import utc_now

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answerer:
    """Answers frames, each with the model it was given to; ``max_answer_bytes`` is what the topic takes."""

    store: FrameStore
    group: str
    max_answer_bytes: int
    guard: Guarding

    async def answer(self, record: InRecord, frame: FrameCaptured, served: Served) -> Outcome:
        """Answer ``frame`` in one try. Raises whatever fetching and detecting raise, and RecordTooLargeError."""
        start = time.perf_counter()
        data = await self.store.get(frame.image)
        fetched = time.perf_counter()
        result = await self.guard.detect(answer_for(frame, served.model.card), served, frame, data)
        event = make_answer(
            frame,
            served.model.card,
            result,
            detected_at=utc_now(),
            fetch_ms=(fetched - start) * 1_000,
            total_ms=(time.perf_counter() - start) * 1_000,
        )
        answer = answer_record(event)
        if record_bytes(answer) > self.max_answer_bytes:
            raise self._too_large(answer)
        return Outcome(
            (answer,),
            count=partial(_count, record.topic, event),
            smaller=lambda: self.refuse(record, self._too_large(answer), 1, served.ref.name),
        )

    def refuse(self, record: InRecord, error: Exception, attempts: int, model: str, *, whole: bool = True) -> Outcome:
        """Make the dead letter of ``record``, which fails by itself for the reason ``error``, with the model so named.

        Without ``whole`` the letter leaves out its original, for a topic that takes no more.
        """
        text = error_text(error)
        logger.error("frame goes to the dead letters", extra={"reason": error_code(error), "error": text})
        letter = dead_letter(
            record, group=self.group, error=error, attempts=attempts, topic=topics.FRAMES_DEAD, whole=whole
        )
        return Outcome(
            (letter,),
            count=INFERENCE_REQUESTS.labels(model=model, status="failed").inc,
            refused=error_code(error),
            smaller=partial(self.refuse, record, error, attempts, model, whole=False) if whole else None,
        )

    def _too_large(self, answer: OutRecord) -> RecordTooLargeError:
        return RecordTooLargeError(
            f"the answer has {record_bytes(answer)} bytes, topic {topics.DETECTIONS} takes {self.max_answer_bytes} or "
            "less; raise the confidence threshold or lower max_detections in the model card, or send less metadata"
        )


def _count(topic: str, event: DetectionsMade) -> None:
    name = event.model.name
    INFERENCE_REQUESTS.labels(model=name, status="success").inc()
    INFERENCE_DURATION.labels(model=name).observe(event.timings.inference_ms / 1_000)
    DETECTIONS_PER_IMAGE.observe(len(event.detections))
    DETECTIONS_TOO_LARGE.labels(model=name).inc(event.too_large or 0)
    latency_s = max(0.0, (utc_now() - event.received_at).total_seconds())
    FRAME_LATENCY.labels(topic).observe(latency_s)

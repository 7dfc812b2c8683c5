"""Makes one attempt at a frame (fetch, detect, build the event), and the dead letter of a frame that fails."""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial

from detectors.metrics import (
    DETECTION_COUNT,
    DETECTIONS_PER_IMAGE,
    DETECTIONS_TOO_LARGE,
    FRAME_LATENCY,
    INFERENCE_DURATION,
    INFERENCE_REQUESTS,
    MODEL_INFERENCE_TIME,
)
from detectors.worker.frames.detections_event import detections_id, detections_record, make_detections
from detectors.worker.frames.frame_rules import FrameRules
from detectors.worker.partitions.partition_queue import FrameOutcome
from detectors.worker.pipeline.ranked_queue import Rank
from detectors.worker.pipeline.serving import LoadedModel
from detectors.worker.quarantine.quarantine import QuarantinePort
from infra.broker.port import InRecord, OutRecord
from infra.broker.sizes import record_bytes
from infra.errors import RecordTooLargeError
from infra.failure.dead_letter_records import dead_letter
from infra.failure.error_texts import error_code, error_text
from infra.storage.frames.port import FrameStore
from infra.telemetry.buckets import BoundedLabel
from schemas import topics
from schemas.event_base import ModelRef
from schemas.events import DetectionsMade, FrameCaptured
from schemas.timestamps import utc_now

logger = logging.getLogger(__name__)

# A model that takes text may find any number of classes.
_class_label = BoundedLabel()


@dataclass(frozen=True, slots=True)
class FrameAttempt:
    """Processes frames, each with the model that was chosen for it."""

    store: FrameStore
    group: str
    max_event_bytes: int
    """The largest record that the topic ``detections`` takes."""
    quarantine: QuarantinePort
    rules: FrameRules

    async def detect(self, record: InRecord, frame: FrameCaptured, loaded: LoadedModel) -> FrameOutcome:
        """Fetch ``frame``'s image, run ``loaded`` on it and return its detections event.

        Raises every error of fetching and detecting, and RecordTooLargeError.
        """
        start = time.perf_counter()
        data = await self.store.get(frame.image)
        fetched = time.perf_counter()
        rank = Rank.LIVE if record.topic == topics.FRAMES_LIVE else Rank.BACKGROUND
        result = await self.quarantine.detect(detections_id(frame, loaded.model.card), loaded, frame, data, rank)
        rulings = await self.rules.rulings(frame, loaded.model, result, rank)
        event = make_detections(
            frame,
            loaded.model.card,
            result,
            rulings,
            detected_at=utc_now(),
            fetch_ms=(fetched - start) * 1_000,
            total_ms=(time.perf_counter() - start) * 1_000,
        )
        output = detections_record(event)
        if record_bytes(output) > self.max_event_bytes:
            raise self._too_large(output)
        return FrameOutcome(
            (output,),
            count=partial(_count, record.topic, event),
            smaller=lambda: self.make_dead_letter(record, self._too_large(output), 1, loaded.ref),
        )

    def make_dead_letter(
        self, record: InRecord, error: Exception, attempts: int, model: ModelRef, *, whole: bool = True
    ) -> FrameOutcome:
        """Return the dead letter of ``record``, which fails while others succeed, because of ``error``.

        ``model``: the one that was used, or was to be used. Without ``whole`` the letter leaves out the original
        record, for a topic that does not take it.
        """
        text = error_text(error)
        logger.error("a frame becomes a dead letter", extra={"reason": error_code(error), "error": text})
        letter = dead_letter(
            record,
            group=self.group,
            error=error,
            attempts=attempts,
            topic=topics.FRAMES_DEAD,
            whole=whole,
            model=model,
        )
        without_original = partial(self.make_dead_letter, record, error, attempts, model, whole=False)
        return FrameOutcome(
            (letter,),
            count=INFERENCE_REQUESTS.labels(model=model.name, status="failed").inc,
            dead_reason=error_code(error),
            smaller=without_original if whole else None,
        )

    def _too_large(self, output: OutRecord) -> RecordTooLargeError:
        return RecordTooLargeError(
            f"the detections event has {record_bytes(output)} bytes, topic {topics.DETECTIONS} takes "
            f"{self.max_event_bytes} or less; raise the confidence threshold or lower max_detections in the model "
            "card, or send less metadata"
        )


def _count(topic: str, event: DetectionsMade) -> None:
    name = event.model.name
    INFERENCE_REQUESTS.labels(model=name, status="success").inc()
    INFERENCE_DURATION.labels(model=name).observe(event.timings.inference_ms / 1_000)
    MODEL_INFERENCE_TIME.labels(model=name).observe(event.timings.inference_ms / 1_000)
    DETECTIONS_PER_IMAGE.observe(len(event.detections))
    for label, count in Counter(found.label for found in event.detections).items():
        DETECTION_COUNT.labels(_class_label(label)).inc(count)
    DETECTIONS_TOO_LARGE.labels(model=name).inc(event.too_large or 0)
    latency_s = max(0.0, (utc_now() - event.received_at).total_seconds())
    FRAME_LATENCY.labels(topic).observe(latency_s)

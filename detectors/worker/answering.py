"""How one frame is answered: fetch, detect, build the record; with retries, and the dead letter when none helps."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from functools import partial

from detectors.worker.answers import answer_for, answer_record, make_answer
from detectors.worker.guard import Guard, is_about_the_frame
from detectors.worker.lanes import Entry
from detectors.worker.pipeline import FrameResult
from detectors.worker.serving import Served
from infra.broker.port import OutRecord
from infra.errors import RecordTooLargeError
from infra.failure import Backoff, StoppedError, Work, dead_letter, error_code, error_text
from infra.framestore.port import FrameStore
from infra.telemetry import metrics
from infra.telemetry.logs import bind
from infra.telemetry.tracing import consumer_span
from schemas import topics
from schemas.events import DetectionsMade, FrameCaptured
from schemas.timestamps import utc_now

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answerer:
    """Answers frames, each with the model it was given to; ``max_answer_bytes`` is what the topic takes.

    guard: finds frames that crash the engine; None: they crash every worker they come to.
    """

    store: FrameStore
    work: Work
    max_answer_bytes: int
    guard: Guard | None = None

    async def answer(self, entry: Entry, frame: FrameCaptured, served: Served) -> tuple[OutRecord, ...]:
        """The records that settle ``entry``: its answer, or its dead letter. Sets what to count once they stand."""
        context = {"device_id": frame.device_id, "frame_id": str(frame.frame_id)}
        with bind(**context), consumer_span(entry.record, group=self.work.group):
            backoff = Backoff(self.work.policy)
            for attempt in range(1, self.work.policy.record_attempts + 1):
                try:
                    event = await self._detect(frame, served)
                    record = self._sized(answer_record(event))
                except StoppedError:
                    raise
                except Exception as error:
                    metrics.RECORDS_FAILED.labels(self.work.group, entry.record.topic, error_code(error)).inc()
                    if is_about_the_frame(error) or attempt == self.work.policy.record_attempts:
                        return self.refuse(entry, error, attempt, served.ref.name)
                    logger.exception("could not answer a frame, trying again", extra={"attempt": attempt})
                    if not await backoff.wait(self.work.stop):
                        raise StoppedError("detect: given up because the process stops") from error
                else:
                    entry.count = partial(self._count, entry.record.topic, event)
                    return (record,)
        raise AssertionError("record_attempts is at least 1, so the loop returned")

    def refuse(self, entry: Entry, error: Exception, attempts: int, model: str) -> tuple[OutRecord, ...]:
        """The dead letter of ``entry``, which fails by itself for the reason ``error``, with the model so named."""
        logger.error("frame goes to the dead letters", extra={"reason": error_code(error), "error": error_text(error)})
        entry.refused = error_code(error)
        entry.count = metrics.INFERENCE_REQUESTS.labels(model=model, status="failed").inc
        letter = dead_letter(
            entry.record, group=self.work.group, error=error, attempts=attempts, topic=topics.FRAMES_DEAD
        )
        return (letter,)

    async def _detect(self, frame: FrameCaptured, served: Served) -> DetectionsMade:
        start = time.perf_counter()
        data = await self.work.retrying(lambda: self.store.get(frame.image), "fetch frame")
        fetched = time.perf_counter()
        result = await self._result(frame, served, data)
        return make_answer(
            frame,
            served.model.card,
            result,
            detected_at=utc_now(),
            fetch_ms=(fetched - start) * 1_000,
            total_ms=(time.perf_counter() - start) * 1_000,
        )

    async def _result(self, frame: FrameCaptured, served: Served, data: bytes) -> FrameResult:
        if self.guard is None:
            return await served.pipeline.detect(data, frame.options, frame.camera)
        return await self.guard.detect(answer_for(frame, served.model.card), served, frame, data)

    def _sized(self, record: OutRecord) -> OutRecord:
        """``record``, when its topic takes one so large."""
        size = len(record.value or b"")
        if size > self.max_answer_bytes:
            raise RecordTooLargeError(
                f"the answer has {size} bytes, topic {topics.DETECTIONS} takes {self.max_answer_bytes}; "
                "raise the confidence threshold or lower max_detections in the model card"
            )
        return record

    def _count(self, topic: str, event: DetectionsMade) -> None:
        name = event.model.name
        metrics.INFERENCE_REQUESTS.labels(model=name, status="success").inc()
        metrics.INFERENCE_DURATION.labels(model=name).observe(event.timings.inference_ms / 1_000)
        metrics.DETECTIONS_PER_IMAGE.observe(len(event.detections))
        metrics.DETECTIONS_TOO_LARGE.labels(model=name).inc(event.too_large or 0)
        latency_s = max(0.0, (utc_now() - event.received_at).total_seconds())
        metrics.FRAME_LATENCY.labels(topic).observe(latency_s)

"""Serves POST /api/v1/detect/batch: accepts up to 50 images, and returns a result or an error for each of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import orjson
from pydantic import JsonValue
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from infra.failure.error_texts import is_transient
from infra.http_api.errors.responses import request_id_of
from infra.http_api.errors.texts import ErrorText
from infra.telemetry.logs import bind
from ingest.acceptance.acceptance import Acceptance, PreparedFrame, require_digest
from ingest.acceptance.device_token import token_of
from ingest.acceptance.error_texts import describe_frame_error
from ingest.answers.answers import Answers
from ingest.answers.partition import PartitionAnswers, WaitingFrame
from ingest.gateway.detect import (
    ClientGoneError,
    gone_response,
    observe_wait,
    publish_expecting,
    result_of,
    while_connected,
)
from ingest.gateway.request.batches import Batch, Batches, BatchImage
from ingest.gateway.request.uploads import Uploads
from ingest.gateway.results import dead_letter_text, detections_body, path_of, where_to_look
from ingest.settings import GatewaySettings
from schemas.errors import StandgaleError
from schemas.events import DeadLetter, FrameBatch
from schemas.ids import frame_batch_id
from schemas.timestamps import format_utc
from schemas.topics import FRAMES_BACKFILL

_NO_ANSWER = "NO_DETECTIONS_YET"


@dataclass(frozen=True, slots=True)
class _Sent:
    """Is an image whose frame is published, and the wait for its answer."""

    image: BatchImage
    frame: PreparedFrame
    waiting: WaitingFrame


@dataclass(slots=True)
class _Outcome:
    """Holds the JSON of one image: in ``results``, or in ``errors``."""

    image: BatchImage
    json: bytes
    failed: bool


class BatchEndpoint:
    """Is the endpoint as a plain ASGI app. A failed image never stops the others."""

    def __init__(
        self,
        acceptance: Acceptance,
        uploads: Uploads,
        answers: Answers,
        settings: GatewaySettings,
        stream_url: str | None,
    ) -> None:
        self._acceptance = acceptance
        self._batches = Batches(acceptance, uploads, settings)
        self._answers = answers
        self._settings = settings
        self._stream_url = stream_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one batch; the error middleware turns errors of the whole request into responses."""
        device_id = self._acceptance.authenticate(token_of(dict(scope["headers"])))
        deadline = asyncio.get_running_loop().time() + self._settings.batch_timeout_s
        with (
            bind(device_id=device_id),
            self._answers.places.reserve(device_id, self._settings.max_batch_images) as places,
            self._answers.watch(device_id) as partition,
        ):
            batch = await self._batches.receive(scope, receive, device_id, deadline)
            frames = self._frames(batch, device_id)
            _require_available(batch.images)
            self._answers.places.shrink(places, len(frames))
            # A batch is mostly what was kept while there was no connection: it must not delay live frames.
            sent = await self._publish(frames, partition, batch.fields.topic or FRAMES_BACKFILL)
            published_at = time.monotonic()
            try:
                waited = await while_connected(self._wait(sent, partition, deadline, published_at), receive)
            except ClientGoneError:
                observe_wait("left", published_at)
                response = gone_response(scope)
            else:
                response = _response([*waited, *_failures(batch.images, request_id_of(scope))])
            await response(scope, receive, send)

    def _frames(self, batch: Batch, device_id: str) -> list[tuple[BatchImage, PreparedFrame]]:
        """Return the frames of the images that are stored; one without a capture time fails."""
        frames = []
        for image in batch.images:
            if image.examined is None or image.uri is None:
                continue
            fields, examined = batch.fields_of(image), image.examined
            try:
                require_digest(fields, examined)
                captured_at = self._acceptance.capture_time(fields, examined.capture, image_first=True)
            except StandgaleError as error:
                image.error = error
            else:
                frame = self._acceptance.frame(device_id, fields, examined, captured_at, image.uri)
                frames.append((image, frame))
        return _as_batch(frames)

    async def _publish(
        self, frames: Sequence[tuple[BatchImage, PreparedFrame]], partition: PartitionAnswers, topic: str
    ) -> list[_Sent]:
        """Publish all frames together; what is published stays accepted."""
        events = [frame.event for _, frame in frames]
        waiting = await publish_expecting(self._acceptance, partition, events, topic)
        return [_Sent(image, frame, wait) for (image, frame), wait in zip(frames, waiting, strict=True)]

    async def _wait(
        self, sent: Sequence[_Sent], partition: PartitionAnswers, deadline: float, published_at: float
    ) -> list[_Outcome]:
        return await asyncio.gather(*(self._wait_for_one(one, partition, deadline, published_at) for one in sent))

    async def _wait_for_one(
        self, sent: _Sent, partition: PartitionAnswers, deadline: float, published_at: float
    ) -> _Outcome:
        answer = await sent.waiting.answer(deadline)
        observe_wait(result_of(answer), published_at)
        image, event = sent.image, sent.frame.event
        if answer is None:
            return _Outcome(image, orjson.dumps(self._unanswered(sent, partition.problem)), failed=True)
        if isinstance(answer, DeadLetter):
            image_id: dict[str, JsonValue] = {"image_id": str(event.frame_id)}
            return _failure(image, dead_letter_text(answer), image_id)
        body: dict[str, JsonValue] = {"filename": image.name, "index": image.index}
        body |= detections_body(answer, sent.frame.warnings, self._stream_url)
        return _Outcome(image, orjson.dumps(body), failed=False)

    def _unanswered(self, sent: _Sent, problem: str | None) -> dict[str, JsonValue]:
        """Return the error of an image that was accepted, and whose detections did not come in time."""
        event = sent.frame.event
        why = f" (the gateway cannot read the detections now: {problem})" if problem else ""
        limit_s = self._settings.batch_timeout_s
        return {
            "filename": sent.image.name,
            "index": sent.image.index,
            "code": _NO_ANSWER,
            "message": f"accepted, but there are no detections {limit_s:g} s after the request began "
            f"(gateway.batch_timeout_s){why}",
            "details": f"{where_to_look(self._stream_url)}.",
            "image_id": str(event.frame_id),
            "captured_at": format_utc(event.captured_at),
            "lakefs_path": path_of(event),
        }


def _require_available(images: Sequence[BatchImage]) -> None:
    """Raise the error because of which no image could be stored, if it is one that passes: all are to be sent again."""
    errors = [image.error for image in images]
    first = errors[0]
    if first is not None and all(error is not None and is_transient(error) for error in errors):
        raise first


def _failure(image: BatchImage, text: ErrorText, more: dict[str, JsonValue] | None = None) -> _Outcome:
    body: dict[str, JsonValue] = {
        "filename": image.name,
        "index": image.index,
        "code": text.code,
        "message": text.message,
        "details": text.details,
        **(more or {}),
    }
    return _Outcome(image, orjson.dumps(body), failed=True)


def _failures(images: Sequence[BatchImage], request_id: str) -> list[_Outcome]:
    """Return the outcomes of the images that were not accepted."""
    return [
        _failure(image, describe_frame_error(image.error, request_id)) for image in images if image.error is not None
    ]


def _as_batch(frames: list[tuple[BatchImage, PreparedFrame]]) -> list[tuple[BatchImage, PreparedFrame]]:
    """Return ``frames`` with events that name their batch; a frame that is there twice counts once."""
    ids = {frame.event.frame_id for _, frame in frames}
    if not ids:
        return frames
    batch = FrameBatch(id=frame_batch_id(ids), frames=len(ids))
    return [(image, replace(frame, event=frame.event.model_copy(update={"batch": batch}))) for image, frame in frames]


def _response(outcomes: Sequence[_Outcome]) -> Response:
    """Return the response: every image is in ``results`` or in ``errors``, each in the order sent."""
    in_order = sorted(outcomes, key=lambda outcome: outcome.image.index)
    failed = [outcome for outcome in in_order if outcome.failed]
    body = {
        "results": [orjson.Fragment(outcome.json) for outcome in in_order if not outcome.failed],
        "total_processed": len(in_order) - len(failed),
        "total_failed": len(failed),
        "failed_images": [outcome.image.name for outcome in failed],
        "errors": [orjson.Fragment(outcome.json) for outcome in failed],
    }
    return Response(orjson.dumps(body), media_type="application/json")

"""Serves POST /api/v1/detect: accepts one frame as /api/v1/frames does, and waits for its detections."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import TypeVar

import orjson
from pydantic import JsonValue
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from infra.http_api.errors.responses import request_id_of, text_response
from infra.telemetry.http import note_failure
from infra.telemetry.logs import bind
from ingest.acceptance.acceptance import Acceptance, PreparedFrame
from ingest.acceptance.device_token import token_of
from ingest.acceptance.fields import TIME_NAMES
from ingest.answers.answers import Answers
from ingest.answers.partition import Answer, PartitionAnswers, WaitingFrame
from ingest.gateway.request.uploads import Uploads
from ingest.gateway.results import dead_letter_text, detections_body, unanswered_body
from ingest.metrics import ANSWER_WAIT
from ingest.settings import GatewaySettings
from schemas.events import DeadLetter, DetectionsMade, FrameCaptured
from schemas.topics import FRAMES_LIVE

ResultT = TypeVar("ResultT")

_FOLLOW_S = 2.0
"""How long the publishing of a frame may wait for the following of its answers; later ones are found all the same."""
_CLIENT_GONE = 499
"""The status in metrics and logs of a request whose client closed the connection (nginx has it, too)."""


@dataclass(frozen=True, slots=True)
class _Accepted:
    """Holds a published frame, and the wait for its answer."""

    frame: PreparedFrame
    waiting: WaitingFrame
    published_at: float
    deadline: float


class DetectEndpoint:
    """Is the endpoint as a plain ASGI app; while it waits, it holds neither the image nor a place for uploads."""

    def __init__(
        self,
        acceptance: Acceptance,
        uploads: Uploads,
        answers: Answers,
        settings: GatewaySettings,
        stream_url: str | None,
    ) -> None:
        self._acceptance = acceptance
        self._uploads = uploads
        self._answers = answers
        self._timeout_s = settings.answer_timeout_s
        self._stream_url = stream_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one upload; the error middleware turns errors into responses."""
        device_id = self._acceptance.authenticate(token_of(dict(scope["headers"])))
        with (
            bind(device_id=device_id),
            self._answers.places.reserve(device_id),
            self._answers.watch(device_id) as partition,
        ):
            accepted = await self._accept(scope, receive, device_id, partition)
            try:
                answer = await while_connected(accepted.waiting.answer(accepted.deadline), receive)
            except ClientGoneError:
                observe_wait("left", accepted.published_at)
                response = gone_response(scope)
            else:
                observe_wait(result_of(answer), accepted.published_at)
                response = self._response(scope, accepted.frame, answer, partition.problem)
            await response(scope, receive, send)

    async def _accept(self, scope: Scope, receive: Receive, device_id: str, partition: PartitionAnswers) -> _Accepted:
        """Receive, store and publish the frame; the image is in memory until this returns."""
        async with self._uploads.receive(
            scope, receive, device_id, TIME_NAMES, self._acceptance.require_room
        ) as upload:
            deadline = asyncio.get_running_loop().time() + self._timeout_s
            frame = await self._acceptance.prepare(device_id, upload.image, upload.fields)
            topic = upload.fields.topic or FRAMES_LIVE
            [waiting] = await publish_expecting(self._acceptance, partition, [frame.event], topic)
            await self._acceptance.discard_original(frame)
        return _Accepted(frame, waiting, time.monotonic(), deadline)

    def _response(self, scope: Scope, frame: PreparedFrame, answer: Answer | None, problem: str | None) -> Response:
        if isinstance(answer, DetectionsMade):
            return _json(200, detections_body(answer, frame.warnings, self._stream_url))
        if isinstance(answer, DeadLetter):
            text = dead_letter_text(answer)
            note_failure(scope, text.code, text.message)
            return text_response(text, request_id_of(scope))
        body = unanswered_body(frame.event, frame.warnings, self._stream_url, self._timeout_s, problem)
        return _json(202, body)


async def publish_expecting(
    acceptance: Acceptance, partition: PartitionAnswers, events: Sequence[FrameCaptured], topic: str
) -> list[WaitingFrame]:
    """Publish ``events``, and return the waits for their answers; they begin before it, so that none is missed.

    Raises the errors of :meth:`Acceptance.publish`; then nothing is waited for.
    """
    await partition.wait_until_followed(_FOLLOW_S)
    waiting = [partition.expect(str(event.frame_id), event.device_id) for event in events]
    try:
        await acceptance.publish(events, topic)
    except BaseException:
        for one in waiting:
            partition.forget(one)
        raise
    return waiting


class ClientGoneError(Exception):
    """The client closed the connection while the gateway waited."""


async def while_connected(work: Coroutine[None, None, ResultT], receive: Receive) -> ResultT:
    """Return the result of ``work``, which begins when the whole body was received.

    Raises ClientGoneError, and cancels it, when the client closes the connection.
    """
    tasks = asyncio.create_task(work), asyncio.create_task(_gone(receive))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not tasks[0].done():
            raise ClientGoneError
        return tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def gone_response(scope: Scope) -> Response:
    """Return the response to a client that is gone, for metrics and logs; what was accepted stays accepted."""
    note_failure(scope, "CLIENT_GONE", "the client closed the connection while it waited; its frames stay accepted")
    return Response(status_code=_CLIENT_GONE)


def result_of(answer: Answer | None) -> str:
    """Return the label of a wait that ended with ``answer``."""
    return "late" if answer is None else "detected" if isinstance(answer, DetectionsMade) else "dead"


def observe_wait(result: str, published_at: float) -> None:
    """Count the wait for one frame."""
    ANSWER_WAIT.labels(result).observe(time.monotonic() - published_at)


def _json(status: int, body: dict[str, JsonValue]) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")

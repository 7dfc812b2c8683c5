"""Streams the events of media to clients, at the pace at which each of them reads.

Events wait in the database, and at most a hundred of them in memory for each client. So a slow client loses none: it
gets them later. One that takes nothing for ``media.send_timeout_s`` is disconnected, and goes on where it was with
``Last-Event-ID``.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.types import Receive, Scope, Send

from console.http.callers import Caller
from console.http.connection import request_connection
from console.media.bodies import MediaDetection, MediaError, MediaEvent, detections_of, event_text
from console.media.errors import MediaNotFoundError
from console.media.open_streams import MediaStreams
from console.media.records import found_in
from console.parts import ConsoleParts
from infra.errors import TransientError
from infra.waiting import wait_until_set
from sinks.metrics import SSE_CLIENTS, SSE_DROPPED, SSE_EVENTS

PAGE = 100
"""The most events that wait in memory for a client."""
STREAM = "media"
_LONGEST_S = 3_600.0
"""Then the client connects again."""
_NEWEST = """
SELECT id FROM media_runs WHERE client_id = $1 AND media_id = $2 ORDER BY created_at DESC, id LIMIT 1
"""
_RUN = "SELECT id, media_id, state, percent, events, finished_at, error_code, error_message FROM media_runs"
_ONE = f"{_RUN} WHERE id = $1"
_ALL = f"""
{_RUN} WHERE client_id = $1 AND media_id IS NOT NULL
    AND (finished_at IS NULL OR finished_at > clock_timestamp() - interval '10 minutes')
ORDER BY created_at, id
"""
_EVENTS = """
SELECT event, percent, video_time_s, status, session_id, error_code, error_message FROM media_frames
WHERE run_id = $1 AND event > $2 ORDER BY event LIMIT $3
"""


class MediaStream(EventSourceResponse):
    """Is the response; it counts as a stream until it ends."""

    def __init__(self, streams: MediaStreams, events: AsyncIterator[ServerSentEvent]) -> None:
        settings = streams.settings
        super().__init__(
            events,
            sep="\n",
            ping=settings.heartbeat_s,
            ping_message_factory=lambda: ServerSentEvent(comment="heartbeat", sep="\n"),
            send_timeout=settings.send_timeout_s,
        )
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the medium, the client or the process ends. Raises OverloadedError before it begins."""
        self._streams.require_room()
        self._streams.open += 1
        SSE_CLIENTS.labels(STREAM).inc()
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            SSE_DROPPED.labels(STREAM).inc()
        finally:
            SSE_CLIENTS.labels(STREAM).dec()
            self._streams.open -= 1


class MediaEvents:
    """Reads the events of media of one client."""

    def __init__(self, parts: ConsoleParts, streams: MediaStreams, caller: Caller) -> None:
        self._parts = parts
        self._caller = caller
        self._client_id = caller.client_id
        self._streams = streams
        self._until = time.monotonic() + _LONGEST_S

    async def newest_run(self, media_id: str) -> UUID:
        """Return the newest run of a medium. Raises MediaNotFoundError."""
        async with request_connection(self._parts) as connection:
            found: UUID | None = await connection.fetchval(_NEWEST, self._client_id, media_id)
        if found is None:
            raise MediaNotFoundError(f"there is no medium {media_id!r}", field="media_id")
        return found

    async def of_run(self, run: UUID, last_id: str | None) -> AsyncIterator[ServerSentEvent]:
        """Yield the events of a run behind ``last_id``, up to its last one."""
        seen = _number_in(last_id, run)
        while not self._is_over():
            try:
                rows = await self._fetch(_ONE, run)
                if not rows:
                    return
                async for event in self._new(rows[0], seen):
                    seen = _number_in(event.id, run)
                    yield event
                if rows[0]["finished_at"] is not None and seen > rows[0]["events"]:
                    return
            except TransientError:
                # The database is away for a while, and the client waits; its health says why.
                await self._pause()
            await self._pause()

    async def of_all(self) -> AsyncIterator[ServerSentEvent]:
        """Yield the events of all media of the client from now on."""
        seen: dict[UUID, int] = {}
        is_first = True
        while not self._is_over():
            try:
                rows = await self._fetch(_ALL, self._client_id)
                if is_first:
                    seen = {row["id"]: row["events"] + (row["finished_at"] is not None) for row in rows}
                    is_first = False
                seen = {row["id"]: seen.get(row["id"], 0) for row in rows}
                for row in rows:
                    async for event in self._new(row, seen[row["id"]]):
                        seen[row["id"]] = _number_in(event.id, row["id"])
                        yield event
            except TransientError:
                await self._pause()
            await self._pause()

    async def _fetch(self, query: str, *values: object) -> list[Any]:
        async with request_connection(self._parts) as connection:
            return list(await connection.fetch(query, *values))

    async def _new(self, row: Any, seen: int) -> AsyncIterator[ServerSentEvent]:
        run, last = row["id"], row["events"]
        while seen < last and not self.is_stopping:
            async with request_connection(self._parts) as connection:
                frames: list[Any] = await connection.fetch(_EVENTS, run, seen, PAGE)
                sessions = [each["session_id"] for each in frames if each["session_id"] is not None]
                found = await found_in(connection, sessions)
            if not frames:
                break
            for each in frames:
                seen = each["event"]
                yield _event(
                    run, seen, _of_frame(row["media_id"], each, detections_of(found.get(each["session_id"], [])))
                )
        if row["finished_at"] is not None and seen == last:
            yield _event(run, last + 1, _of_end(row))

    @property
    def is_stopping(self) -> bool:
        """Whether the process stops."""
        return self._streams.stopping.is_set()

    def _is_over(self) -> bool:
        return self.is_stopping or time.monotonic() > self._until or not self._caller.is_allowed(self._parts.keys)

    async def _pause(self) -> None:
        await wait_until_set(self._streams.stopping, self._streams.settings.watch_interval_s)


def _event(run: UUID, number: int, event: MediaEvent) -> ServerSentEvent:
    SSE_EVENTS.labels(STREAM).inc()
    return ServerSentEvent(event_text(event), id=f"{run.hex}-{number}", sep="\n")


def _of_frame(media_id: str, row: Any, found: list[MediaDetection]) -> MediaEvent:
    failed = row["status"] == "failed"
    return MediaEvent(
        mediaId=media_id,
        mediaStatus="AIProcessing",
        mediaPercent=row["percent"],
        annotations=found,
        videoTime=row["video_time_s"],
        error=MediaError(code=row["error_code"], message=row["error_message"]) if failed else None,
    )


def _of_end(row: Any) -> MediaEvent:
    failed = row["state"] == "error"
    return MediaEvent(
        mediaId=row["media_id"],
        mediaStatus="Error" if failed else "AIProcessed",
        mediaPercent=row["percent"],
        annotations=[],
        error=MediaError(code=row["error_code"], message=row["error_message"]) if failed else None,
    )


def _number_in(event_id: str | None, run: UUID) -> int:
    """Return the number in the id of an event of ``run``; 0 in that of another one."""
    known, _, number = (event_id or "").partition("-")
    return int(number) if known == run.hex and number.isascii() and number.isdigit() and len(number) < 10 else 0

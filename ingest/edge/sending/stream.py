"""Sends the backlog over one WebSocket, many frames at a time and in their order."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace
from uuid import uuid4

import aiohttp
import orjson

from infra.process.monotonic import monotonic_s
from infra.waiting import wait_until_set
from ingest.edge.port import SpoolUnavailableError
from ingest.edge.sending.bandwidth import Bandwidth
from ingest.edge.sending.fields import FrameFields
from ingest.edge.sending.gateway import GatewayConnection, NotSentError
from ingest.edge.sending.known import KnownImages
from ingest.edge.sending.outcomes import Outcomes
from ingest.edge.sending.responses import HINTS, NOT_STORED, TRANSIENT_CODES, Accepted, NotSent, Outcome, Rejected
from ingest.edge.sending.stream_messages import (
    BYE,
    CLOSED,
    Answer,
    Credits,
    Ended,
    Later,
    Welcome,
    hello,
    read_message,
    refused_handshake,
)
from ingest.edge.sending.turns import Turns
from ingest.edge.settings import EdgeSettings
from ingest.edge.spool.entry import Entry, Lane
from ingest.edge.spool.frame_file import DamagedFrameError
from ingest.edge.spool.spool import Spool
from schemas.frame_messages import STREAM_PATH, SUBPROTOCOL, frame_message
from schemas.possession import proof_of

logger = logging.getLogger(__name__)

_LINGER_S = 5.0
"""How long the connection stays open for further frames of the backlog."""
_LOOK_EVERY_S = 0.2
_CLOSE_S = 2.0
_UNAUTHORIZED, _TAKEN_OVER = 4401, 4409
_SLOWEST_BYTES_PER_S = 10_000


@dataclass(eq=False, slots=True)
class _Sent:
    """Is a frame that has a number in the session, and no answer yet."""

    entry: Entry
    size_bytes: int = 0
    by_digest: bool = False


class BacklogStream:
    """Keeps the session; after a lost connection it goes on with the first frame that has no answer."""

    def __init__(
        self,
        spool: Spool,
        connection: GatewayConnection,
        settings: EdgeSettings,
        fields: FrameFields,
        known: KnownImages,
        bandwidth: Bandwidth,
        turns: Turns,
        outcomes: Outcomes,
    ) -> None:
        self._spool = spool
        self._connection = connection
        self._settings = settings
        self._fields = fields
        self._known = known
        self._bandwidth = bandwidth
        self._turns = turns
        self._outcomes = outcomes
        self._session = uuid4().hex
        self._waiting: deque[_Sent] = deque()
        self._first = 1
        self._sent = 0
        """How many of those that wait were sent over this connection"""
        self._credits = Credits(1, 0)
        self._most_bytes = 0
        self._turn_back = 0
        """Counts the times in which frames are to be sent again"""
        self._pause_until_s = 0.0
        self._progress_s = 0.0
        self._changed = asyncio.Event()

    @property
    def has_frames(self) -> bool:
        """Whether frames of the session have no answer yet."""
        return bool(self._waiting)

    async def send(self, stop: asyncio.Event) -> Ended | NotSent:
        """Send the backlog until there is none, or something fails; after ``stop`` wait for the last answers."""
        try:
            socket = await self._connection.open_socket(STREAM_PATH, SUBPROTOCOL)
        except aiohttp.WSServerHandshakeError as error:
            return refused_handshake(error.status)
        except NotSentError as error:
            return error.outcome
        try:
            if socket.protocol != SUBPROTOCOL:
                return Ended.NOT_THERE
            return await self._talk(socket, stop)
        except ValueError as error:
            return NotSent(str(error), "STREAM_BROKEN")
        except SpoolUnavailableError as error:
            return NotSent(str(error), error.code)
        except TimeoutError as error:
            return self._connection.failure(error)
        except (aiohttp.ClientError, OSError) as error:
            return replace(self._connection.failure(error), code=CLOSED)
        finally:
            self._sent = 0
            with suppress(TimeoutError, aiohttp.ClientError, OSError):
                async with asyncio.timeout(_CLOSE_S):
                    await socket.close()

    def give_back(self) -> None:
        """Leave all frames that have no answer to another way of sending, and begin a new session."""
        while self._waiting:
            left = self._waiting.popleft()
            left.entry.maybe_sent |= bool(left.size_bytes)
            self._spool.put_back(left.entry)
        self._session, self._first = uuid4().hex, 1

    async def _talk(self, socket: aiohttp.ClientWebSocketResponse, stop: asyncio.Event) -> Ended | NotSent:
        await socket.send_str(hello(self._session, self._first))
        async with asyncio.timeout(self._settings.stall_timeout_s):
            welcome = await self._next_message(socket)
        if isinstance(welcome, NotSent):
            return welcome
        if not isinstance(welcome, Welcome) or not 0 <= welcome.next - self._first <= len(self._waiting):
            raise ValueError("the gateway's stream goes on with a frame that was not sent")
        # Answers to the frames before it follow.
        self._sent, self._credits = welcome.next - self._first, welcome.credits
        self._most_bytes, self._pause_until_s = welcome.most_message_bytes, 0.0
        self._progress_s = monotonic_s()
        tasks: list[asyncio.Task[NotSent] | asyncio.Task[Ended]] = [
            asyncio.create_task(self._read(socket)),
            asyncio.create_task(self._write(socket, stop)),
        ]
        try:
            while True:
                await asyncio.wait(tasks, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
                for task in tasks:
                    if task.done():
                        return task.result()
                if self._is_stalled():
                    raise TimeoutError
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _is_stalled(self) -> bool:
        """Return whether an answer or the end of a message is due since too long."""
        waiting = list(self._waiting)[: self._sent + 1]
        slow_s = max((each.size_bytes for each in waiting), default=0) / _SLOWEST_BYTES_PER_S
        return bool(self._sent) and monotonic_s() - self._progress_s > self._settings.stall_timeout_s + slow_s

    async def _next_message(self, socket: aiohttp.ClientWebSocketResponse) -> object:
        """Return the next message, or why there is none."""
        message = await socket.receive()
        if message.type is aiohttp.WSMsgType.TEXT:
            return read_message(message.data)
        if message.type is aiohttp.WSMsgType.BINARY:
            raise ValueError("the gateway's stream has a binary message")
        return self._closed(socket.close_code, message.extra if isinstance(message.extra, str) else "")

    def _closed(self, code: int | None, reason: str) -> NotSent:
        if code == _TAKEN_OVER:
            self.give_back()
        said = f"the gateway closed the stream ({code}{': ' if reason else ''}{reason[:200]})"
        if code == _UNAUTHORIZED:
            return NotSent(f"{said}; {HINTS[401]}", "UNAUTHORIZED", needs_person=True)
        return NotSent(said, CLOSED)

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> NotSent:
        """Take the answers, in their order, until the connection ends."""
        while True:
            message = await self._next_message(socket)
            self._progress_s = monotonic_s()
            match message:
                case NotSent():
                    return message
                case Credits():
                    self._credits = message
                case Later():
                    if not 0 <= message.sequence - self._first <= self._sent:
                        raise ValueError("the gateway's stream asks for a frame that was not sent")
                    self._sent = message.sequence - self._first
                    self._turn_back += 1
                    self._pause_until_s = monotonic_s() + self._outcomes.failed(None, message.why)
                case Answer():
                    if message.sequence != self._first or not self._sent:
                        raise ValueError("the gateway's stream answers a frame that was not sent")
                    await self._take_answer(message.refused)
                case _:
                    raise ValueError("the gateway's stream has a message at the wrong time")
            self._changed.set()

    async def _take_answer(self, refused: Rejected | None) -> None:
        done = self._waiting.popleft()
        self._first, self._sent = self._first + 1, self._sent - 1
        entry = done.entry
        if refused is not None and refused.code == NOT_STORED and done.by_digest:
            # It was removed meanwhile; the bytes are sent now.
            self._known.forget(entry)
            self._spool.put_back(entry)
            return
        if refused is not None and (refused.code in TRANSIENT_CODES or self._fields.is_unknown(refused)):
            self._spool.put_back(entry)
            return
        failure = await self._finish(entry, refused or Accepted())
        if failure is not None:
            self._pause_until_s = monotonic_s() + self._outcomes.failed(entry, failure)

    async def _finish(self, entry: Entry, outcome: Outcome) -> NotSent | None:
        """Do what the answer asks for, to the end: a frame that stays in the spool would be sent a second time."""
        work = asyncio.ensure_future(self._outcomes.take(entry, outcome))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait({work})
            if work.exception() is not None:
                self._spool.put_back(entry)
            raise
        except SpoolUnavailableError:
            self._spool.put_back(entry)
            raise

    async def _write(self, socket: aiohttp.ClientWebSocketResponse, stop: asyncio.Event) -> Ended:
        """Send frames as far as the credits go; return when there is none and all have their answer."""
        idle_since_s = monotonic_s()
        while True:
            self._changed.clear()
            pause_s = self._pause_until_s - monotonic_s()
            if not stop.is_set() and pause_s <= 0 and self._sent < max(self._credits.frames, 1):
                sent = await self._send_next(socket)
                if sent is Ended.TOO_LARGE:
                    if not self._waiting:
                        await socket.send_str(BYE)
                        return sent
                elif sent:
                    idle_since_s = monotonic_s()
                    continue
            if self._is_finished(stop, idle_since_s):
                await socket.send_str(BYE)
                self.give_back()
                return Ended.NO_BACKLOG
            wait_s = min(pause_s, _LOOK_EVERY_S) if pause_s > 0 else _LOOK_EVERY_S
            await wait_until_set(self._changed, wait_s)

    def _is_finished(self, stop: asyncio.Event, idle_since_s: float) -> bool:
        if stop.is_set():
            return not self._sent
        return not self._waiting and monotonic_s() - idle_since_s > _LINGER_S

    async def _send_next(self, socket: aiohttp.ClientWebSocketResponse) -> bool | Ended:
        """Send the next frame, if there is one and the credits allow it; return whether it was dealt with."""
        turn_back = self._turn_back
        if self._sent == len(self._waiting):
            found = self._spool.next_of(Lane.BACKLOG)
            if found is None:
                return False
            self._spool.take(found, Lane.BACKLOG)
            self._waiting.append(_Sent(found))
        entry = self._waiting[self._sent].entry
        if self._sent and self._bytes_in_flight() + entry.size_bytes > self._credits.bytes:
            return False
        is_known = await self._known.has(entry)
        try:
            frame = await self._spool.open(entry, Lane.BACKLOG)
        except DamagedFrameError as error:
            await self._spool.set_damaged_aside(entry, error)
            frame = None
        if frame is None:
            self._leave_out(entry)
            return True
        fields = self._fields.of(frame.header, Lane.BACKLOG, maybe_sent=entry.maybe_sent)
        fields["sha256"] = frame.header.sha256
        if is_known:
            fields["proof"] = await asyncio.to_thread(proof_of, frame.image)
        if turn_back != self._turn_back:
            # Its turn comes after the frames before it that are to be sent again.
            return True
        message = frame_message(self._first + self._sent, orjson.dumps(fields), b"" if is_known else frame.image)
        if len(message) > self._most_bytes:
            self._leave_out(entry)
            return Ended.TOO_LARGE
        sent = self._waiting[self._sent]
        sent.size_bytes, sent.by_digest = len(message), is_known
        self._sent += 1
        async for piece in self._bandwidth.pieces(message):
            await self._turns.wait_for_backlog(len(piece))
            self._progress_s = monotonic_s()
        await socket.send_bytes(message)
        self._progress_s = monotonic_s()
        return True

    def _bytes_in_flight(self) -> int:
        return sum(each.size_bytes for each in list(self._waiting)[: self._sent])

    def _leave_out(self, entry: Entry) -> None:
        """Take a frame out of the session that was not sent over this connection; those behind it move up."""
        for each in list(self._waiting):
            if each.entry is entry:
                self._waiting.remove(each)
                self._spool.put_back(entry)

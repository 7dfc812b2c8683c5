"""Serves one client of the stream: from its hello to the close, with the frames between them."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from secrets import token_hex

from starlette.types import Message, Receive, Send

from infra.auth.port import Verifier
from infra.errors import TransientError
from infra.http_api.errors.api_errors import ApiError, UnauthorizedError
from infra.http_api.limits.slots import UploadSlots
from infra.process.websocket_flow import MessageFlow, MessageLimits
from ingest.acceptance.acceptance import Acceptance
from ingest.settings import GatewaySettings
from ingest.stream.closing import CloseCode, StreamEnd
from ingest.stream.memory import FrameMemory
from ingest.stream.pipeline import FramePipeline
from ingest.stream.places import DevicePlaces
from ingest.stream.recent_frames import RecentFrames
from ingest.stream.sessions import Session, Sessions
from ingest.stream.settings import StreamSettings
from ingest.stream.wire import (
    Hello,
    Window,
    credits_message,
    max_message_bytes,
    read_bye,
    read_hello,
    welcome,
)
from schemas.errors import StandgaleError
from schemas.frame_messages import SUBPROTOCOL

_LOOK_EVERY_S = 1.0
_CLOSED_WITHOUT_CODE = 1005
_REVOKED = "the device token was revoked or replaced"


class StreamConnection:
    """Is one accepted WebSocket."""

    def __init__(
        self,
        acceptance: Acceptance,
        verifier: Verifier,
        slots: UploadSlots,
        gateway: GatewaySettings,
        settings: StreamSettings,
        sessions: Sessions,
        recent: RecentFrames,
        places: DevicePlaces,
    ) -> None:
        self._acceptance = acceptance
        self._verifier = verifier
        self._slots = slots
        self._gateway = gateway
        self._settings = settings
        self._sessions = sessions
        self._recent = recent
        self._places = places
        self._ending: asyncio.Future[StreamEnd] = asyncio.get_running_loop().create_future()
        self._frame_at = time.monotonic()
        self._window = Window(0, 0)
        self._token = ""
        self._said_bye = False
        self.has_device = False
        """Whether it has said hello with a valid token"""

    def end(self, end: StreamEnd) -> None:
        """Close the connection when the frames in progress are answered."""
        if not self._ending.done():
            self._ending.set_result(end)

    async def serve(self, receive: Receive, send: Send, flow: MessageFlow, token: str, device_id: str | None) -> int:
        """Serve the client, whose handshake was checked, to its end; return the code of the close.

        ``token`` and ``device_id`` are those of the handshake, where it has a token.
        """
        await send({"type": "websocket.accept", "subprotocol": SUBPROTOCOL})
        try:
            hello = await self._hello(receive)
            self._token = token or hello.token
            device_id = device_id or self._device()
            self.has_device = True
            with self._places.reserve(device_id):
                end = await self._take_frames(receive, send, flow, hello, device_id)
        except StreamEnd as early:
            end = early
        with suppress(OSError):
            # It may be closed already, by the client or because a message broke the protocol.
            await send({"type": "websocket.close", "code": end.code, "reason": end.reason})
        return end.code

    async def _hello(self, receive: Receive) -> Hello:
        seconds = self._settings.hello_timeout_s
        receiving = asyncio.ensure_future(receive())
        try:
            await asyncio.wait((receiving, self._ending), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if self._ending.done():
                raise self._ending.result()
            if not receiving.done():
                raise StreamEnd(CloseCode.TOO_SLOW, f"no hello within {seconds:g} s (stream.hello_timeout_s)")
            message = receiving.result()
        finally:
            receiving.cancel()
        _require_open(message)
        text = message.get("text")
        if text is None:
            raise StreamEnd(CloseCode.BAD_MESSAGE, "the first message must be a hello, as text")
        return read_hello(text)

    def _device(self) -> str:
        """Return the device of the token. Raises StreamEnd."""
        try:
            return self._acceptance.authenticate(self._token)
        except UnauthorizedError as error:
            raise StreamEnd(CloseCode.UNAUTHORIZED, f"{error}; ask for a new one") from error
        except ApiError as error:
            raise StreamEnd(CloseCode.TOO_MANY, str(error)) from error
        except TransientError as error:
            raise StreamEnd(CloseCode.BUSY, "the device tokens cannot be read now; connect again later") from error

    async def _take_frames(
        self, receive: Receive, send: Send, flow: MessageFlow, hello: Hello, device_id: str
    ) -> StreamEnd:
        async def send_text(text: str) -> None:
            await self._send_window(send, memory, device_id)
            await send({"type": "websocket.send", "text": text})

        name = hello.session or token_hex(16)
        session = self._sessions.take_over(device_id, name, hello.next, hello.resume, self)
        most = max_message_bytes(self._gateway)
        window = Window(self._settings.window_frames, self._settings.window_bytes)
        memory = FrameMemory(self._slots, device_id, window, most, flow)
        pipeline = FramePipeline(self._acceptance, self._gateway, self._recent, device_id, memory, send_text)
        try:
            async with session.lock:
                # The former connection has ended what it had begun.
                if self._ending.done():
                    return self._ending.result()
                missed = session.resume(hello.next, hello.resume)
                pipeline.begin(session)
                self._window = memory.window(self._places.count(device_id))
                await self._greet(send, name, session, missed)
                flow.set_gate(memory, self._limits(most))
                end = await self._run(receive, flow, memory, pipeline)
        except OSError:
            end = StreamEnd(_CLOSED_WITHOUT_CODE, "")
        except asyncio.CancelledError:
            pipeline.cancel()
            raise
        finally:
            if session.holder is self:
                session.holder = None
            await pipeline.close()
        if self._said_bye:
            self._sessions.forget(device_id, name)
        return end

    async def _greet(self, send: Send, name: str, session: Session, missed: list[str]) -> None:
        hello = welcome(name, session.next, self._window, self._gateway, self._settings.idle_timeout_s)
        for text in (hello, *missed):
            await send({"type": "websocket.send", "text": text})

    async def _send_window(self, send: Send, memory: FrameMemory, device_id: str) -> None:
        """Tell the client when it may send more than before, or less."""
        window = memory.window(self._places.count(device_id))
        # Bytes change with every frame of another device.
        unlike = window.frames != self._window.frames or not 0.8 < window.bytes / self._window.bytes < 1.25
        if unlike:
            self._window = window
            await send({"type": "websocket.send", "text": credits_message(window)})

    def _limits(self, most: int) -> MessageLimits:
        return MessageLimits(
            max_bytes=most,
            message_timeout_s=self._gateway.body_timeout_s,
            wait_timeout_s=self._settings.memory_timeout_s,
            too_slow=CloseCode.TOO_SLOW,
            busy=CloseCode.BUSY,
        )

    async def _run(
        self, receive: Receive, flow: MessageFlow, memory: FrameMemory, pipeline: FramePipeline
    ) -> StreamEnd:
        """Take frames until something ends the stream, then answer those that were taken."""
        self._frame_at = time.monotonic()
        publishing = asyncio.create_task(pipeline.run(), name="stream-publishing")
        others = [
            asyncio.create_task(self._read(receive, memory, pipeline), name="stream-reading"),
            asyncio.create_task(self._watch(pipeline), name="stream-watching"),
        ]
        tasks: list[asyncio.Future[StreamEnd] | asyncio.Task[None]] = [self._ending, publishing, *others]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            end = next((task.result() for task in (self._ending, *others) if task.done()), None)
            for task in others:
                task.cancel()
            flow.stop_reading()
            pipeline.finish()
            await publishing
            assert end is not None
            return end
        finally:
            for each in (publishing, *others):
                each.cancel()
            await asyncio.gather(publishing, *others, return_exceptions=True)

    async def _read(self, receive: Receive, memory: FrameMemory, pipeline: FramePipeline) -> StreamEnd:
        try:
            while True:
                message = await receive()
                _require_open(message)
                text, data = message.get("text"), message.get("bytes")
                if data is None:
                    read_bye(text or "")
                    self._said_bye = True
                    return StreamEnd(CloseCode.FINISHED, "")
                slot = memory.arrived(len(data))
                if slot is None:
                    raise StreamEnd(CloseCode.BAD_MESSAGE, "a frame was sent before the welcome")
                self._frame_at = time.monotonic()
                pipeline.take(data, slot, self._failure_of_token())
        except StreamEnd as end:
            return end

    def _failure_of_token(self) -> StandgaleError | None:
        """Count a frame as a request of the device; return why it cannot be taken now. Raises StreamEnd."""
        try:
            self._acceptance.authenticate(self._token)
        except UnauthorizedError as error:
            raise StreamEnd(CloseCode.UNAUTHORIZED, _REVOKED) from error
        except (ApiError, TransientError) as error:
            return error
        return None

    async def _watch(self, pipeline: FramePipeline) -> StreamEnd:
        """Return when the token is not valid any more, or nothing comes."""
        idle_s = self._settings.idle_timeout_s
        while True:
            await asyncio.sleep(min(_LOOK_EVERY_S, self._gateway.token_refresh_s, idle_s / 4))
            with suppress(TransientError):
                if self._verifier.verify(self._token) is None:
                    return StreamEnd(CloseCode.UNAUTHORIZED, _REVOKED)
            if pipeline.is_idle and time.monotonic() - self._frame_at > idle_s:
                return StreamEnd(CloseCode.TOO_SLOW, f"no frame for {idle_s:g} s (stream.idle_timeout_s)")


def _require_open(message: Message) -> None:
    """Raise StreamEnd when the message says that the connection is closed."""
    if message["type"] == "websocket.disconnect":
        raise StreamEnd(message.get("code") or _CLOSED_WITHOUT_CODE, "")

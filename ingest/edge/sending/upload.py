"""Sends one frame to the gateway by a request, and gives up when nothing moves any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import nullcontext
from urllib.parse import urlencode

import aiohttp
import orjson
from pydantic import JsonValue

from ingest.edge.sending.bandwidth import Bandwidth
from ingest.edge.sending.fields import FrameFields
from ingest.edge.sending.gateway import GatewayConnection, NotSentError, Response, read_response
from ingest.edge.sending.responses import NOT_STORED, NotSent, Outcome, Rejected, outcome_of
from ingest.edge.sending.turns import Turns
from ingest.edge.settings import EdgeSettings
from ingest.edge.spool.entry import Lane
from ingest.edge.spool.frame_file import SpooledFrame
from schemas.possession import proof_of

PATH = "/api/v1/frames"
# A longer query may be refused on the way; such fields travel in a form instead.
_LONGEST_QUERY = 4_096


class Uploader:
    """Sends frames by POST /api/v1/frames."""

    def __init__(
        self,
        connection: GatewayConnection,
        settings: EdgeSettings,
        fields: FrameFields,
        bandwidth: Bandwidth,
        turns: Turns,
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._fields = fields
        self._bandwidth = bandwidth
        self._turns = turns

    async def send(
        self, frame: SpooledFrame, lane: Lane, *, is_known: bool = False, maybe_sent: bool = False
    ) -> Outcome:
        """Upload ``frame`` once, without its bytes if the gateway has them; every failure is an outcome."""
        try:
            outcome = await self._send(frame, lane, by_digest=is_known, maybe_sent=maybe_sent)
            if is_known and isinstance(outcome, NotSent) and outcome.code == NOT_STORED:
                outcome = await self._send(frame, lane, by_digest=False, maybe_sent=maybe_sent)
            while isinstance(outcome, Rejected) and self._fields.is_unknown(outcome):
                outcome = await self._send(frame, lane, by_digest=False, maybe_sent=maybe_sent)
            return outcome
        except NotSentError as error:
            return error.outcome
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            return self._connection.failure(error)

    async def _send(self, frame: SpooledFrame, lane: Lane, *, by_digest: bool, maybe_sent: bool) -> Outcome:
        fields = self._fields.of(frame.header, lane, maybe_sent=maybe_sent)
        pairs = [(name, _text(value)) for name, value in fields.items()]
        # Without bytes the fields are in the query, whatever their length.
        by_digest = by_digest and len(urlencode(pairs)) <= _LONGEST_QUERY
        if by_digest:
            proof = await asyncio.to_thread(proof_of, frame.image)
            pairs += [("sha256", frame.header.sha256), ("proof", proof)]
        response = await self._post(pairs, b"" if by_digest else frame.image, frame.header.sha256, lane)
        return outcome_of(response.status, response.headers, response.body, frame.header.sha256)

    async def _post(self, pairs: list[tuple[str, str]], body: bytes, sha256: str, lane: Lane) -> Response:
        headers = {**await self._connection.headers(), "Content-Type": "application/octet-stream"}
        if body and len(urlencode(pairs)) > _LONGEST_QUERY:
            # No image contains its own hash.
            boundary = f"standgale-{sha256[:40]}"
            headers["Content-Type"] = f"multipart/form-data; boundary={boundary}"
            pairs, body = [], _form(pairs, body, boundary)
        headers["Content-Length"] = str(len(body))
        async with asyncio.timeout(self._settings.stall_timeout_s) as stall:
            data = self._body(body, stall, lane) if body else None
            async with self._connection.session.post(
                self._connection.url + PATH, params=pairs, data=data, headers=headers, allow_redirects=False
            ) as response:
                return await read_response(response)

    async def _body(self, body: bytes, stall: asyncio.Timeout, lane: Lane) -> AsyncIterator[memoryview]:
        """Yield the pieces of ``body``; each begins the time limit for progress anew."""
        loop = asyncio.get_running_loop()
        with self._turns.live() if lane is Lane.LIVE else nullcontext():
            async for piece in self._bandwidth.pieces(body):
                if stall.expired():
                    return
                if lane is Lane.BACKLOG:
                    stall.reschedule(None)
                    await self._turns.wait_for_backlog(len(piece))
                stall.reschedule(loop.time() + self._settings.stall_timeout_s)
                yield piece
                if lane is Lane.LIVE:
                    self._turns.sent_live(len(piece))


def _text(value: JsonValue) -> str:
    if isinstance(value, str):
        return value
    return repr(value) if isinstance(value, float) else orjson.dumps(value).decode()


def _form(pairs: list[tuple[str, str]], image: bytes, boundary: str) -> bytes:
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in pairs
    ]
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"\r\n\r\n'.encode()
    return b"".join((*parts, head, image, f"\r\n--{boundary}--\r\n".encode()))

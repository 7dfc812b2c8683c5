"""Serves the pictures of events from the frame store, a few at the same time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import BinaryIO

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from infra.errors import ImageCorruptError, ImageMissingError, StoreUnavailableError
from infra.storage.frames.port import FrameStore
from sinks.sse.pictures.addresses import PictureAddressError, PictureAddresses, PictureName
from sinks.sse.responses import error_answer

logger = logging.getLogger(__name__)

_AT_ONCE = 16
_PIECE_BYTES = 256 * 1024
_RETRY_AFTER_S = 2
_HEADERS = {"Cache-Control": "private, max-age=3600", "X-Content-Type-Options": "nosniff"}


@dataclass(frozen=True, slots=True)
class _Stored:
    """Says where the bytes of a picture are."""

    uri: str
    sha256: str
    size_bytes: int


class PictureRoute:
    """Is the endpoint as an ASGI app."""

    def __init__(self, addresses: PictureAddresses, store: FrameStore) -> None:
        self._addresses = addresses
        self._store = store
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send one picture, or say why not."""
        request = Request(scope)
        async with AsyncExitStack() as stack:
            response = await self._response(request, stack)
            await response(scope, receive, send)

    async def _response(self, request: Request, stack: AsyncExitStack) -> Response:
        try:
            name = self._addresses.check(request.path_params["name"], request.query_params)
        except PictureAddressError as error:
            return error_answer(request, 403, error.code, str(error))
        if self._places.locked():
            text = f"{_AT_ONCE} pictures are being sent, the most there may be at the same time"
            return error_answer(request, 503, "OVERLOADED", text, {"Retry-After": str(_RETRY_AFTER_S)})
        await stack.enter_async_context(self._places)
        try:
            return await self._picture(name, stack)
        except (ImageMissingError, ImageCorruptError) as error:
            # The texts of the store name its folder.
            logger.warning("a picture of the live stream cannot be sent: %s", error)
            text = "the frame store does not have the picture any more: it was removed, or damaged"
            return error_answer(request, 404, error.code, text)
        except StoreUnavailableError as error:
            logger.warning("a picture of the live stream cannot be sent now: %s", error)
            text = "the frame store does not answer; try again"
            return error_answer(request, 503, error.code, text, {"Retry-After": str(_RETRY_AFTER_S)})

    async def _picture(self, name: PictureName, stack: AsyncExitStack) -> Response:
        found = (await self._store.find([name.sha256])).get(name.sha256)
        if found is None:
            raise ImageMissingError(f"the frame store has no image {name.sha256}")
        stored = _Stored(found.uri, name.sha256, found.size_bytes)
        path = await stack.enter_async_context(self._store.local(stored))
        try:
            file = await asyncio.to_thread(path.open, "rb")
        except FileNotFoundError as error:
            raise ImageMissingError(f"{path} was removed a moment ago") from error
        stack.callback(file.close)
        headers = {**_HEADERS, "Content-Length": str(found.size_bytes)}
        return StreamingResponse(_pieces(file), media_type=name.media_type, headers=headers)


async def _pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(file.read, _PIECE_BYTES):
        yield piece

"""Sends the pictures of files as data URLs, within JSON that is written while it is sent."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import orjson
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from console.results.errors import file_expired
from console.results.pictures import DrawOptions, PictureDrawer
from console.results.records import ResultFile, ResultJob, ResultRecords
from infra.errors import ImageMissingError
from infra.storage.frames.port import FrameStore

# A multiple of three: base64 of pieces is then that of the whole.
_PIECE = 3 << 18


@dataclass(frozen=True, slots=True)
class _Ready:
    """Is a file whose pictures are there: the original on disk, the drawn one in memory."""

    file: ResultFile
    original: Path
    annotated: bytes | None


class InlinePicturesResponse(Response):
    """Draws the pictures of ``files``, then sends them: in a list, or ``alone``.

    Raises FileExpiredError, OverloadedError and the errors of store and database, all before anything is sent.
    """

    def __init__(
        self,
        store: FrameStore,
        drawer: PictureDrawer,
        records: ResultRecords,
        job: ResultJob,
        files: Sequence[ResultFile],
        options: DrawOptions,
        *,
        alone: bool,
    ) -> None:
        super().__init__()
        self._store, self._drawer, self._records = store, drawer, records
        self._job, self._files, self._options, self._alone = job, files, options, alone

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        async with AsyncExitStack() as opened:
            ready = [await self._prepare(opened, file) for file in self._files]
            await StreamingResponse(self._body(ready), media_type="application/json")(scope, receive, send)

    async def _prepare(self, opened: AsyncExitStack, file: ResultFile) -> _Ready:
        image, annotated = file.file.image, None
        try:
            if not file.failed:
                found = await self._records.found(file)
                annotated = await opened.enter_async_context(self._drawer.annotated(image, found, self._options))
            return _Ready(file, await opened.enter_async_context(self._store.local(image)), annotated)
        except ImageMissingError as error:
            raise file_expired(file.file.filename) from error

    async def _body(self, ready: Sequence[_Ready]) -> AsyncIterator[bytes]:
        yield b'{"status":"success","data":'
        if not self._alone:
            yield orjson.dumps({"job_id": self._job.job_id})[:-1] + b',"visualizations":['
        for place, each in enumerate(ready):
            if place:
                yield b","
            async for piece in _pieces(each):
                yield piece
        yield b"}" if self._alone else b"]}}"


async def _pieces(ready: _Ready) -> AsyncIterator[bytes]:
    """Yield one InlinePictures."""
    file = ready.file
    head = {
        "file_id": file.file.file_id,
        "filename": file.file.filename,
        "format": "base64",
        "detection_count": file.count,
    }
    yield orjson.dumps(head)[:-1] + f',"original_image":"data:{file.file.image.media_type};base64,'.encode()
    with await asyncio.to_thread(ready.original.open, "rb") as original:
        while piece := await asyncio.to_thread(original.read, _PIECE):
            yield b64encode(piece)
    if ready.annotated is None:
        yield b'","annotated_image":null}'
        return
    yield b'","annotated_image":"data:image/jpeg;base64,'
    for start in range(0, len(ready.annotated), _PIECE):
        yield b64encode(ready.annotated[start : start + _PIECE])
    yield b'"}'

"""Receives the bytes of a medium into a file, and the one picture of a direct request into memory."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.requests import Request

from console.media.config import MediaConfig, MediaRequest, read_request
from console.media.settings import MediaSettings
from console.parts import ConsoleParts
from infra.http_api.errors.api_errors import UnsupportedMediaTypeError, ValidationFailedError
from infra.http_api.limits.turns import Turns
from infra.http_api.request.body import BodyLimit, BodyPieces, BodyTimeLimit, declared_length
from infra.http_api.request.form_stream import FormStream
from infra.http_api.request.multipart import OVERHEAD_BYTES, boundary_of

_PIECE_BYTES = 1_000_000
_PICTURE_PARTS = ("file", "image")
_CONFIG_PART = "config"
_PICTURE_HINT = 'Send it as a part file, as "curl -F file=@picture.jpg" does.'
_BYTES = ("image/", "video/")
_OCTETS = "application/octet-stream"


def content_type(request: Request) -> str:
    """Return the media type of the body, without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def has_body(request: Request) -> bool:
    """Whether the request says that it has a body."""
    headers = request.headers
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def is_bytes(kind: str) -> bool:
    """Whether a body of this type is the medium itself."""
    return kind.startswith(_BYTES) or kind == _OCTETS


def config_in_query(request: Request) -> MediaConfig:
    """Return what the parameter `config` asks, which is JSON. Raises InvalidConfigError."""
    unknown = sorted(set(request.query_params) - {_CONFIG_PART})
    if unknown:
        name = unknown[0][:60]
        raise ValidationFailedError(f"the query has {name!r}; it takes config, which is JSON", field=name)
    return _without_source(read_request(request.query_params.get(_CONFIG_PART, "")))


def _without_source(asked: MediaRequest) -> MediaConfig:
    if asked.source is not None:
        raise ValidationFailedError("config has a source, and the body has the bytes; send one of them", field="source")
    return asked.config


class MediaReceiver:
    """Receives bodies; how many at the same time is limited with those of uploads."""

    def __init__(self, parts: ConsoleParts, settings: MediaSettings) -> None:
        self._parts = parts
        self._media = settings
        self._time = BodyTimeLimit(settings.receive_timeout_s, "media.receive_timeout_s")
        self._turns = Turns()

    @asynccontextmanager
    async def to_file(self, request: Request, client_id: str) -> AsyncIterator[Path]:
        """Give a file with the body, which is removed at the end of the block.

        Raises UploadTimeoutError, UploadIncompleteError, BodyTooLargeError, OverloadedError.
        """
        settings = self._media
        limit = BodyLimit(settings.max_bytes, "media.max_bytes", details="Send a shorter video.")
        declared_length(dict(request.scope["headers"]), limit)
        with tempfile.TemporaryDirectory(prefix="standgale-media-") as folder:
            path = Path(folder, "medium")
            with self._parts.slots.reserve(2 * _PIECE_BYTES, client_id) as slot, slot.reading():
                pieces = BodyPieces(request.receive, limit, self._turns, client_id, slot)
                try:
                    async with asyncio.timeout(self._time.seconds):
                        await _write(pieces, path)
                except TimeoutError as error:
                    raise self._time.exceeded(pieces.received) from error
            if not pieces.received:
                raise ValidationFailedError("the body is empty", details="Send the bytes of a picture or a video.")
            yield path

    @asynccontextmanager
    async def picture(self, request: Request, client_id: str) -> AsyncIterator[tuple[bytes, MediaConfig]]:
        """Give the picture of a direct request and what is asked of it: the body, or a form with them as parts.

        Its bytes count as received ones during the block. Raises the same errors, UnsupportedMediaTypeError, and
        InvalidConfigError.
        """
        config, most = config_in_query(request), self._parts.settings.max_file_bytes
        kind = content_type(request)
        is_form = kind == "multipart/form-data"
        if not (is_form or is_bytes(kind)):
            raise UnsupportedMediaTypeError(
                f"the Content-Type is {kind[:100]!r}; this path takes image/*, application/octet-stream and "
                "multipart/form-data",
                details="Send the bytes of a picture, or a form with a part file.",
                field="Content-Type",
            )
        limit = BodyLimit(most + (OVERHEAD_BYTES if is_form else 0), "console.max_file_bytes", "file")
        declared = declared_length(dict(request.scope["headers"]), limit)
        with self._parts.slots.reserve(declared, client_id) as slot:
            pieces = BodyPieces(request.receive, limit, self._turns, client_id, slot)
            try:
                with slot.reading():
                    async with asyncio.timeout(self._time.seconds):
                        received = (
                            await self._form(request, pieces, config) if is_form else (await _whole(pieces), config)
                        )
            except TimeoutError as error:
                raise self._time.exceeded(pieces.received) from error
            yield received

    async def _form(self, request: Request, pieces: BodyPieces, config: MediaConfig) -> tuple[bytes, MediaConfig]:
        most, picture = self._parts.settings.max_file_bytes, None
        stream = FormStream(pieces.next_piece, boundary_of(request.headers["content-type"]), 4)
        async for streamed in stream.parts(lambda part: most if part.name in _PICTURE_PARTS else OVERHEAD_BYTES):
            name = streamed.part.name
            # What a part is comes before its size: a picture under another name is too large for a field.
            if name not in (*_PICTURE_PARTS, _CONFIG_PART):
                raise _other_part(name)
            if name in _PICTURE_PARTS and picture is not None:
                raise ValidationFailedError(
                    f"the form has a second picture, in the part {name!r}; it takes one",
                    details="Send a request for each picture, or upload them for a job: /api/v1/inference/upload.",
                    field=name,
                )
            if streamed.too_large:
                limit = (most, "console.max_file_bytes") if name in _PICTURE_PARTS else (OVERHEAD_BYTES, "fixed")
                raise BodyLimit(*limit, name).exceeded(str(streamed.size_bytes))
            if name == _CONFIG_PART:
                config = _without_source(read_request(streamed.part.data))
            else:
                picture = streamed.part.data
        if picture is None:
            raise ValidationFailedError("the form has no picture", details=_PICTURE_HINT, field="file")
        return picture, config


def _other_part(name: str) -> ValidationFailedError:
    return ValidationFailedError(
        f"the form has a part {name[:60]!r}; the picture must be called file, and what is asked of it config",
        details=_PICTURE_HINT,
        field=name[:60] or "name",
    )


async def _whole(pieces: BodyPieces) -> bytes:
    chunks: list[bytes] = []
    while (piece := await pieces.next_piece()) is not None:
        chunks.append(piece)
    return b"".join(chunks)


async def _write(pieces: BodyPieces, path: Path) -> None:
    buffer = bytearray()
    with await asyncio.to_thread(path.open, "wb") as file:
        while (piece := await pieces.next_piece()) is not None:
            buffer += piece
            if len(buffer) >= _PIECE_BYTES:
                await asyncio.to_thread(file.write, bytes(buffer))
                buffer.clear()
        await asyncio.to_thread(file.write, bytes(buffer))

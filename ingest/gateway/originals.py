"""Serves /api/v1/originals: where to upload a large image, and, with frames in a folder, the upload itself."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import TypeVar, get_args
from urllib.parse import parse_qsl
from weakref import WeakValueDictionary

import orjson
from pydantic import JsonValue
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from infra.http_api.errors.api_errors import ApiError, UploadTimeoutError, ValidationFailedError
from infra.http_api.limits.slots import Slot, UploadSlots
from infra.http_api.limits.turns import Turns
from infra.http_api.request.body import BodyLimit, BodyPieces, declared_length, read_body
from infra.storage.originals.errors import (
    BadSignatureError,
    UploadInProgressError,
    WrongContentError,
    WrongOffsetError,
)
from infra.storage.originals.folder import FolderUploads
from infra.storage.originals.port import OriginalUploads, Upload
from infra.telemetry.logs import bind
from infra.time_limits import time_limit
from ingest.acceptance.acceptance import Acceptance
from ingest.acceptance.device_token import token_of
from ingest.acceptance.errors import DigestMismatchError
from ingest.acceptance.fields import parse_digest
from ingest.gateway.request.json_body import object_of
from ingest.gateway.request.uploads import body_time_limit
from ingest.settings import GatewaySettings
from schemas.events import MediaType
from schemas.timestamps import format_utc

T = TypeVar("T")

_BODY = BodyLimit(4_096, "an original is described by less", details="Send the description; the upload comes later.")
_NAMES = ("sha256", "size_bytes", "media_type")
_EXAMPLE = 'Send {"sha256": "9f86d0…", "size_bytes": 180000000, "media_type": "image/tiff"}.'
_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MAX_QUERY_FIELDS = 8
_SLOTS_SETTING = "gateway.max_original_uploads"
OFFSET_HEADER = "Upload-Offset"


class TooManyOriginalsError(ApiError):
    """The device has as many uploads that are not announced as it may have."""

    code = "TOO_MANY_ORIGINALS"
    status = 409


class UploadRefusedError(ApiError):
    """The address of the upload is not valid."""

    code = "UPLOAD_REFUSED"
    status = 403


class WrongSizeError(ApiError):
    """The upload has another size than was said."""

    code = "WRONG_SIZE"


class UploadConflictError(ApiError):
    """The upload does not continue where it ended, or another request writes it."""

    code = "WRONG_OFFSET"
    status = 409


class UploadBusyError(ApiError):
    """Another request writes the same upload."""

    code = "UPLOAD_IN_PROGRESS"
    status = 409


class OriginalsEndpoint:
    """Gives addresses for uploads; a plain ASGI app, so that the token is checked before the body is read."""

    def __init__(
        self, acceptance: Acceptance, originals: OriginalUploads, settings: GatewaySettings, turns: Turns
    ) -> None:
        self._acceptance = acceptance
        self._originals = originals
        self._settings = settings
        self._turns = turns
        self._asking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; the error middleware turns errors into responses."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        device_id = self._acceptance.authenticate(token_of(headers))
        with bind(device_id=device_id):
            declared_length(headers, _BODY)
            data = await read_body(receive, _BODY, body_time_limit(self._settings), self._turns, device_id)
            upload = self._upload(device_id, data)
            body = await self._answer(upload)
        await Response(orjson.dumps(body), media_type="application/json")(scope, receive, send)

    async def _answer(self, upload: Upload) -> dict[str, JsonValue]:
        if self._settings.digests_enabled and await self._acceptance.known.look_up(upload.sha256) is not None:
            return {"status": "stored", "upload": None}
        # One after the other, or all that a device asks for at once would find room.
        async with self._asking.setdefault(upload.device_id, asyncio.Lock()):
            await _require_room(self._originals, upload, self._settings)
            grant = await self._originals.grant(upload, self._settings.original_upload_s)
        return {
            "status": "upload",
            "upload": {
                "method": "PUT",
                "url": grant.url,
                "headers": dict(grant.headers),
                "expires_at": format_utc(grant.expires_at),
            },
        }

    def _upload(self, device_id: str, data: bytes) -> Upload:
        body = object_of(data, _NAMES, details=_EXAMPLE)
        sha256, size_bytes, media_type = (body[name] for name in _NAMES)
        if not isinstance(sha256, str):
            raise ValidationFailedError("sha256 must be text", field="sha256")
        if not isinstance(size_bytes, int) or isinstance(size_bytes, bool) or size_bytes < 1:
            raise ValidationFailedError(
                f"size_bytes is {repr(size_bytes)[:40]}; it must be a number of bytes, 1 or more", field="size_bytes"
            )
        if size_bytes > self._settings.max_original_bytes:
            limit = BodyLimit(self._settings.max_original_bytes, "gateway.max_original_bytes", "size_bytes")
            raise limit.exceeded(str(size_bytes))
        if not isinstance(media_type, str) or media_type not in get_args(MediaType):
            raise ValidationFailedError(
                f"media_type is {repr(media_type)[:60]}; accepted are {', '.join(get_args(MediaType))}",
                field="media_type",
            )
        return Upload(device_id, parse_digest(sha256), size_bytes, media_type)


class UploadEndpoint:
    """Receives originals for a store in a folder; who has the address may write, whatever its token is."""

    def __init__(self, originals: FolderUploads, settings: GatewaySettings, turns: Turns) -> None:
        self._originals = originals
        self._settings = settings
        self._turns = turns
        # No bytes: an original is never in memory.
        self._slots = UploadSlots(settings.max_original_uploads, 0, _SLOTS_SETTING, turn_s=settings.body_timeout_s)

    async def put(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a PUT, of all bytes, or of those from where the upload ended (Content-Range)."""
        upload = await self._verified(scope)
        with bind(device_id=upload.device_id), self._slots.reserve(0, upload.device_id) as slot:
            headers: dict[bytes, bytes] = dict(scope["headers"])
            start, end = _range_of(headers, upload)
            limit = BodyLimit(
                end - start,
                "the size that was said",
                "Content-Length",
                "Send exactly the bytes that were described, or ask for another address.",
            )
            length = declared_length(headers, limit)
            if b"content-length" in headers and length != end - start:
                raise WrongSizeError(
                    f"the upload has {length} bytes; {end - start} were said",
                    details="Send exactly the bytes that were described, or ask for another address.",
                    field="Content-Length",
                )
            # Again: the device may have got many addresses before it used the first of them.
            await _require_room(self._originals, upload, self._settings)
            pieces = BodyPieces(receive, limit, self._turns, upload.device_id, slot)
            offset = await _translated(self._originals.write(upload, start, self._pieces(pieces, slot)))
        whole = offset == upload.size_bytes
        body = {"status": "uploaded" if whole else "partial", "offset": offset}
        response = Response(
            orjson.dumps(body), 200 if whole else 202, {OFFSET_HEADER: str(offset)}, media_type="application/json"
        )
        await response(scope, receive, send)

    async def head(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a HEAD: how many bytes are here."""
        upload = await self._verified(scope)
        offset = await self._originals.offset(upload)
        await Response(None, 200, {OFFSET_HEADER: str(offset), "Cache-Control": "no-store"})(scope, receive, send)

    async def _pieces(self, pieces: BodyPieces, slot: Slot) -> AsyncIterator[bytes]:
        """Yield the pieces of the body; each has a time limit, because a large body may take long.

        Between them ``slot`` may be taken away; what is here stays, and the upload can be continued.
        """
        timeout_s = self._settings.body_timeout_s
        while True:
            try:
                with slot.reading(), time_limit(timeout_s):
                    piece = await pieces.next_piece()
            except TimeoutError as error:
                raise UploadTimeoutError(
                    f"nothing was received for {timeout_s:g} s, after {pieces.received} bytes (gateway.body_timeout_s)",
                    details=f"Continue the upload: a HEAD of the address says how far it is ({OFFSET_HEADER}).",
                ) from error
            if piece is None:
                return
            yield piece

    async def _verified(self, scope: Scope) -> Upload:
        place = scope["path_params"]
        try:
            text = scope["query_string"].decode("ascii")
            query = dict(parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_QUERY_FIELDS))
        except ValueError as error:
            raise UploadRefusedError("the address of the upload is not complete; use it as it was given") from error
        if _DIGEST.fullmatch(place["sha256"]) is None:
            raise UploadRefusedError("the address of the upload names no SHA-256; use it as it was given")
        return await _translated(self._originals.verify(place["device"], place["sha256"], query))


async def _require_room(originals: OriginalUploads, upload: Upload, settings: GatewaySettings) -> None:
    """Raise TooManyOriginalsError when as many others wait as may; one that is here in part may always be continued."""
    most = settings.max_pending_originals
    if await originals.pending(upload, most, settings.original_upload_s) >= most:
        raise TooManyOriginalsError(
            f"this device has {most} originals that are uploaded, or may be uploaded, and not announced "
            "(gateway.max_pending_originals)",
            details="Announce them as frames; what is not announced is removed after twice gateway.original_upload_s.",
        )


async def _translated(work: Awaitable[T]) -> T:
    """Return the result of ``work``; raise its errors as those of a request."""
    try:
        return await work
    except BadSignatureError as error:
        raise UploadRefusedError(str(error)) from error
    except WrongContentError as error:
        details = "Send the original that was described."
        raise DigestMismatchError(str(error), details=details, field="sha256") from error
    except WrongOffsetError as error:
        raise UploadConflictError(
            str(error),
            details="Continue there, or begin at 0.",
            field="Content-Range",
            headers={OFFSET_HEADER: str(error.offset)},
        ) from error
    except UploadInProgressError as error:
        raise UploadBusyError(str(error)) from error


def _range_of(headers: Mapping[bytes, bytes], upload: Upload) -> tuple[int, int]:
    """Return the first byte of the body in the upload, and the first one behind it."""
    text = headers.get(b"content-range")
    if text is None:
        return 0, upload.size_bytes
    match = _RANGE.fullmatch(text.decode("latin-1"))
    if match is not None:
        first, last, total = map(int, match.groups())
        if first <= last < total == upload.size_bytes:
            return first, last + 1
    raise WrongSizeError(
        f"Content-Range is {text[:80].decode('latin-1')!r}; for this upload it is bytes FIRST-LAST/{upload.size_bytes}",
        field="Content-Range",
    )

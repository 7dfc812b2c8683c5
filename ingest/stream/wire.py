"""Reads and writes the messages of a stream: frames are binary, everything else is JSON."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import orjson
from pydantic import JsonValue

from infra.http_api.errors.api_errors import ValidationFailedError
from infra.http_api.errors.texts import ErrorText
from ingest.settings import GatewaySettings
from ingest.stream.closing import CloseCode, StreamEnd
from schemas.events import FrameCaptured
from schemas.frame_messages import FRAME, HEAD, ZEROS
from schemas.timestamps import format_utc

MAX_SEQUENCE = 2**53 - 1
"""The largest number that every JSON reader keeps exactly."""

_MAX_OTHER_FIELDS = 8_192
_SESSION = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_HELLO_KEYS = frozenset(("type", "session", "next", "resume", "token"))
_MAX_TOKEN = 1_024


class Window(NamedTuple):
    """Says how much a client may have sent without an answer."""

    frames: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Hello:
    """Is the first message of a client."""

    session: str | None
    next: int
    resume: bool
    token: str


@dataclass(frozen=True, slots=True)
class FrameMessage:
    """Holds the parts of one binary message."""

    sequence: int
    fields: bytes
    image: bytes


def max_fields_bytes(settings: GatewaySettings) -> int:
    """Return the most bytes of the JSON before an image; metadata may be in it as text, with escapes."""
    return 2 * settings.max_metadata_bytes + _MAX_OTHER_FIELDS


def max_message_bytes(settings: GatewaySettings) -> int:
    """Return the most bytes of a binary message."""
    return HEAD.size + max_fields_bytes(settings) + settings.max_image_bytes


def read_hello(text: str) -> Hello:
    """Return the first message. Raises StreamEnd when it is no hello."""
    hello = _control(text)
    if hello.get("type") != "hello":
        raise _bad("the first message must be a hello")
    unknown = hello.keys() - _HELLO_KEYS
    if unknown:
        raise _bad(f"hello has an unknown key {sorted(unknown)[0][:40]!r}")
    session, token, resume = hello.get("session"), hello.get("token", ""), hello.get("resume", False)
    following = hello.get("next", 1)
    if session is not None and not (isinstance(session, str) and _SESSION.fullmatch(session)):
        raise _bad("hello: session must be 1 to 64 letters, digits or ._-")
    if not isinstance(following, int) or isinstance(following, bool) or not 1 <= following <= MAX_SEQUENCE:
        raise _bad(f"hello: next must be a whole number from 1 to {MAX_SEQUENCE}")
    if not isinstance(resume, bool):
        raise _bad("hello: resume must be true or false")
    if not isinstance(token, str) or len(token) > _MAX_TOKEN:
        raise _bad(f"hello: token must be text of at most {_MAX_TOKEN} characters")
    return Hello(session, following, resume, token.strip())


def read_bye(text: str) -> None:
    """Check a later message of JSON; there is one. Raises StreamEnd when it is no bye."""
    message = _control(text)
    if message != {"type": "bye"}:
        raise _bad(f"a message of type {str(message.get('type'))[:40]!r} is not expected after hello")


def read_frame(message: bytes) -> FrameMessage:
    """Return the parts of a binary message. Raises StreamEnd when its header is wrong: nothing in it can be trusted."""
    if len(message) < HEAD.size:
        raise _bad(f"a frame has {len(message)} bytes, but its header has {HEAD.size}")
    kind, zeros, fields, image, sequence = HEAD.unpack_from(message)
    if kind != FRAME or zeros != ZEROS:
        raise _bad("a frame must begin with the bytes 01 00 00 00")
    if HEAD.size + fields + image != len(message):
        raise _bad(f"the header says {fields} + {image} bytes, but {len(message) - HEAD.size} follow it")
    if not 1 <= sequence <= MAX_SEQUENCE:
        raise _bad(f"a sequence number must be from 1 to {MAX_SEQUENCE}")
    start = HEAD.size + fields
    return FrameMessage(sequence, message[HEAD.size : start], message[start:])


def pairs_of(fields: bytes, limit: int) -> list[tuple[str, str]]:
    """Return the fields of a frame as a request has them. Raises ValidationFailedError when they are not."""
    if len(fields) > limit:
        raise ValidationFailedError(
            f"the fields have {len(fields)} bytes; at most {limit} are accepted (see gateway.max_metadata_bytes)"
        )
    if not fields:
        return []
    try:
        values = orjson.loads(fields)
    except orjson.JSONDecodeError as error:
        raise ValidationFailedError(f"the fields are not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ValidationFailedError('the fields must be a JSON object, like {"captured_at": "2026-01-31T12:00:00Z"}')
    return [(name, _text(name, value)) for name, value in values.items() if value is not None]


def welcome(session: str, following: int, window: Window, settings: GatewaySettings, idle_s: float) -> str:
    """Return the answer to a hello."""
    return _json(
        {
            "type": "welcome",
            "session": session,
            "next": following,
            "credits": _credits(window),
            "limits": {
                "image_bytes": settings.max_image_bytes,
                "message_bytes": max_message_bytes(settings),
                "idle_s": idle_s,
            },
        }
    )


def credits_message(window: Window) -> str:
    """Return the message that changes how much a client may send without an answer."""
    return _json({"type": "credits", **_credits(window)})


def acknowledgement(sequence: int, event: FrameCaptured, warnings: Sequence[str]) -> str:
    """Return the answer to a frame that is durable."""
    return _json(
        {
            "type": "ack",
            "sequence": sequence,
            "frame_id": str(event.frame_id),
            "captured_at": format_utc(event.captured_at),
            "warnings": list(warnings),
        }
    )


def refusal(sequence: int, text: ErrorText) -> str:
    """Return the answer to a frame that will never be accepted as it is."""
    return _json({"type": "refused", "sequence": sequence, **_error(text)})


def later(sequence: int, text: ErrorText, retry_after_s: float) -> str:
    """Return the answer to a frame that is to be sent again, with all after it."""
    return _json({"type": "later", "sequence": sequence, "retry_after_s": retry_after_s, **_error(text)})


def _error(text: ErrorText) -> dict[str, JsonValue]:
    body: dict[str, JsonValue] = {"error_code": text.code, "message": text.message, "details": text.details}
    return body if text.field is None else {**body, "field": text.field}


def _credits(window: Window) -> dict[str, JsonValue]:
    return {"frames": window.frames, "bytes": window.bytes}


def _control(text: str) -> dict[str, JsonValue]:
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise _bad(f"a text message is not JSON: {error}") from error
    if not isinstance(message, dict):
        raise _bad("a text message must be a JSON object")
    return message


def _text(name: str, value: JsonValue) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool | list) or (isinstance(value, dict) and name != "metadata"):
        raise ValidationFailedError(f"{name[:100]} must be text or a number", field=name[:100])
    return orjson.dumps(value).decode()


def _bad(reason: str) -> StreamEnd:
    return StreamEnd(CloseCode.BAD_MESSAGE, reason)


def _json(message: dict[str, JsonValue]) -> str:
    return orjson.dumps(message).decode()

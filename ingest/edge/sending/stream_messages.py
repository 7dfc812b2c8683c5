"""Writes and reads the messages of the gateway's stream, as docs/stream.md defines them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus

import orjson

from ingest.edge.sending.responses import HINTS, LONGEST_RETRY_AFTER_S, NotSent, Rejected

CLOSED = "STREAM_CLOSED"
"""The code of an outcome when an open stream ends."""
BYE = '{"type":"bye"}'


class Ended(Enum):
    """Says why the stream has ended without a failure."""

    NO_BACKLOG = "no backlog"
    NOT_THERE = "the gateway has no stream"
    TOO_LARGE = "the next frame is too large for a message"


@dataclass(frozen=True, slots=True)
class Welcome:
    """Says where to go on, and how much may be without an answer."""

    next: int
    credits: Credits
    most_message_bytes: int


@dataclass(frozen=True, slots=True)
class Credits:
    """Says how much may be without an answer."""

    frames: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Is the answer to a frame: None where it was accepted."""

    sequence: int
    refused: Rejected | None = None


@dataclass(frozen=True, slots=True)
class Later:
    """Asks for a frame, and all after it, again."""

    sequence: int
    why: NotSent


Message = Welcome | Credits | Answer | Later


def hello(session: str, first: int) -> str:
    """Return the first message. Frames may have been sent before: by a process that a power cut ended."""
    return orjson.dumps({"type": "hello", "session": session, "next": first, "resume": True}).decode()


def read_message(text: str) -> Message:
    """Return a message of the gateway. Raises ValueError for one that the protocol does not have."""
    try:
        content = orjson.loads(text)
        match content["type"]:
            case "welcome":
                return Welcome(content["next"], _credits(content["credits"]), content["limits"]["message_bytes"])
            case "credits":
                return _credits(content)
            case "ack":
                return Answer(content["sequence"])
            case "refused":
                reason = ". ".join(filter(None, (content["message"], content.get("details"))))[:500]
                return Answer(content["sequence"], Rejected(content["error_code"], reason, content.get("field") or ""))
            case "later":
                code = content["error_code"]
                said = f"the gateway responds {code}: {content['message']}"
                pause_s = min(max(float(content["retry_after_s"]), 0.0), LONGEST_RETRY_AFTER_S)
                return Later(content["sequence"], NotSent(said, code, pause_s))
    except (TypeError, KeyError, AttributeError, orjson.JSONDecodeError) as error:
        raise ValueError(f"a message of the stream cannot be read: {text[:100]!r}") from error
    raise ValueError(f"the stream has a message of an unknown type: {text[:100]!r}")


def _credits(content: Mapping[str, int]) -> Credits:
    return Credits(int(content["frames"]), int(content["bytes"]))


def refused_handshake(status: int) -> Ended | NotSent:
    """Return what the response to a handshake means that does not open the stream."""
    said = f"the gateway responds {status} to the handshake of the stream"
    if status in (401, 403):
        code = HTTPStatus(status).name
        return NotSent(f"{said} ({code}); {HINTS[status]}", code, needs_person=True)
    if status in (408, 429) or (status >= 500 and status != 501):
        return NotSent(said, f"HTTP_{status}")
    return Ended.NOT_THERE

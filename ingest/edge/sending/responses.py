"""Decides what the gateway's response to an upload means: accepted, refused, or to be tried again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from infra.network.responses import retry_after_s

LONGEST_RETRY_AFTER_S = 3_600.0

# The gateway refuses this frame now and always. Its body must be the gateway's, not that of a proxy in between.
_REFUSES_FRAME = (400, 413, 415, 422)
# Answered by the gateway with 400 although the frame is right: the connection was cut, or changed the bytes.
TRANSIENT_CODES = ("UPLOAD_INCOMPLETE", "DIGEST_MISMATCH")
NOT_STORED = "IMAGE_NOT_STORED"
"""The code of a response to an image that was named by its digest: its bytes are needed."""
_UNAUTHORIZED_HINT = (
    "set edge.token (STANDGALE_EDGE__TOKEN), or write the token to the file of STANDGALE_EDGE__TOKEN_FILE, which is "
    "read anew"
)
HINTS: Mapping[int, str] = {
    401: _UNAUTHORIZED_HINT,
    403: _UNAUTHORIZED_HINT,
    404: "edge.url is not the address of a gateway",
    405: "edge.url is not the address of a gateway",
}


@dataclass(frozen=True, slots=True)
class Accepted:
    """The gateway has the frame: it is durable there."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """The gateway refuses this frame now and always."""

    code: str
    reason: str
    field: str = ""
    """Of the request, if it is because of one."""


@dataclass(frozen=True, slots=True)
class NotSent:
    """The frame was not sent; it is kept and sent again."""

    reason: str
    code: str = "UNAVAILABLE"
    """For counters and logs."""
    retry_after_s: float = 0.0
    """How long the gateway asks to wait."""
    needs_person: bool = False
    """It stays so until a person corrects a setting, here or at the gateway."""
    may_be_frame: bool = False
    """The gateway itself failed (500), perhaps at this frame only."""


Outcome = Accepted | Rejected | NotSent


def outcome_of(status: int, headers: Mapping[str, str], body: bytes, sha256: str) -> Outcome:
    """Return what a response means for the frame whose image has ``sha256``."""
    content = _object_in(body)
    code, message = error_of(body)
    if status == 202:
        return _accepted(content, sha256)
    said = f"the gateway responds {status}" + (f" {code}: {message}" if code else "")
    if status in _REFUSES_FRAME and code and code not in TRANSIENT_CODES:
        reason = ". ".join(filter(None, (message, _text(content.get("details")))))
        return Rejected(code, reason, _text(content.get("field")))
    if 300 <= status < 400:
        target = headers.get("Location", "")[:200]
        return NotSent(f"{said} and names {target!r}; set edge.url to the gateway itself", "REDIRECTED", 0.0, True)
    if status in (408, 429) or status >= 500 or code in TRANSIENT_CODES:
        return NotSent(said, code or f"HTTP_{status}", asked_wait_s(headers), may_be_frame=status == 500)
    hint = HINTS.get(status, "something between this device and the gateway answers, or edge.url is wrong")
    return NotSent(f"{said}; {hint}", code or f"HTTP_{status}", asked_wait_s(headers), needs_person=True)


def error_of(body: bytes) -> tuple[str, str]:
    """Return code and message of an error of the gateway; empty where the body has none."""
    content = _object_in(body)
    return _text(content.get("error_code")), _text(content.get("message"))


def _accepted(content: Mapping[str, object], sha256: str) -> Outcome:
    """Return Accepted if the gateway names the image that was sent: a portal or a proxy must not swallow frames."""
    image = content.get("image")
    received = image.get("sha256") if isinstance(image, dict) else None
    if received == sha256:
        return Accepted()
    if received is None:
        return NotSent(
            "the response 202 does not name the frame; something between this device and the gateway answers, or "
            "edge.url is wrong",
            "NOT_A_GATEWAY",
            needs_person=True,
        )
    return NotSent("the gateway received other bytes than were sent", "ALTERED_ON_THE_WAY")


def _object_in(body: bytes) -> dict[str, object]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _text(value: object) -> str:
    return value[:500] if isinstance(value, str) else ""


def asked_wait_s(headers: Mapping[str, str]) -> float:
    """Return the seconds of Retry-After, a number or a date; 0 without one, an hour at most."""
    return min(retry_after_s(headers.get("Retry-After", "")) or 0.0, LONGEST_RETRY_AFTER_S)

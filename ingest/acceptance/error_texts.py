"""Makes the text of an error for a client, whichever way its frames come in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import uniform

from infra.errors import SettingsError, TransientError
from infra.failure.error_texts import error_code
from ingest.acceptance.errors import ApiError
from ingest.images.check import FileTooLargeError, ImageError

INTERNAL_ERROR = "INTERNAL_ERROR"

UNAVAILABLE_CODES = {
    "STORAGE_UNAVAILABLE": "the frame store is unavailable, so nothing was stored",
    "STORAGE_FULL": "the frame store is full until an operator frees space, so nothing was stored",
    "BROKER_UNAVAILABLE": "the broker is unavailable, so the frame was not accepted",
    "DATABASE_UNAVAILABLE": "the database is unavailable, and what this request needs of it is not known yet",
    "REFUSED": "a service behind the gateway refuses what this needs until an operator corrects that; nothing was done",
    "TOPIC_MISMATCH": "the broker's topics are not as declared, so the frame was not accepted",
    "INVALID_SETTING": "the gateway has a wrong setting, so nothing was done",
}
"""The messages to a device when a service behind the gateway does not work; the log has the complete text."""
_UNAVAILABLE_OTHERWISE = "a service behind the gateway is unavailable"


_IMAGE_DETAILS: tuple[tuple[type[ImageError], str], ...] = (
    (
        FileTooLargeError,
        "Send a smaller image, or upload it first as an original: POST /api/v1/originals says where, and how large it "
        "may be.",
    ),
    (ImageError, "The content decides, not the name or the Content-Type; the limits are settings of the gateway."),
)
"""What to do about an image that is not accepted; the first type that fits counts."""


def retry_after() -> dict[str, str]:
    """Return a Retry-After header of one to five seconds, at random, so that devices do not all retry at once."""
    return {"Retry-After": str(round(uniform(1, 5)))}  # noqa: S311 (spreads load, guards nothing)


@dataclass(frozen=True, slots=True)
class ErrorText:
    """Holds the text of an error for a client: a stable code, a message for people, and what to do about it."""

    status: int
    code: str
    message: str
    details: str | None = None
    field: str | None = None
    headers: Mapping[str, str] | None = None
    errors: Sequence[Mapping[str, str]] = ()


def describe_error(error: Exception, request_id: str) -> ErrorText:
    """Return the text of ``error``, of any type, for a client; never internal details."""
    if isinstance(error, ApiError):
        headers = {**retry_after(), **error.headers} if error.status == 503 else error.headers
        return ErrorText(error.status, error.code, str(error), error.details, error.field, headers, error.errors)
    if isinstance(error, ImageError):
        details = next(text for kind, text in _IMAGE_DETAILS if isinstance(error, kind))
        return ErrorText(400, error.code, str(error), details, "image")
    # Also for a wrong setting: a device must not lose its frame because of an error that an operator can correct.
    # And disk, connection, time limit: never caused by the frame, from any layer.
    if isinstance(error, TransientError | SettingsError | OSError):
        code = error_code(error)
        message = UNAVAILABLE_CODES.get(code, _UNAVAILABLE_OTHERWISE)
        details = "Send the same request again after Retry-After seconds; what is sent twice counts once."
        return ErrorText(503, code, message, details, headers=retry_after())
    details = f"Nothing was accepted. Give the request id {request_id} to the operator of this gateway."
    return ErrorText(500, INTERNAL_ERROR, "the gateway failed at this request", details)

"""Makes the text of an error for a client, whichever way its request comes in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import uniform

from infra.errors import SettingsError, TransientError
from infra.failure.error_texts import error_code
from infra.http_api.errors.api_errors import ApiError

INTERNAL_ERROR = "INTERNAL_ERROR"
_SEND_AGAIN = "Send the same request again after Retry-After seconds."

UNAVAILABLE_CODES = {
    "STORAGE_UNAVAILABLE": "the store for pictures is unavailable, so nothing was stored",
    "STORAGE_FULL": "the store for pictures is full until an operator frees space, so nothing was stored",
    "BROKER_UNAVAILABLE": "the broker is unavailable, so nothing was accepted",
    "DATABASE_UNAVAILABLE": "the database is unavailable, and what this request needs of it is not known yet",
    "REFUSED": "a service behind this one refuses what this needs until an operator corrects that; nothing was done",
    "TOPIC_MISMATCH": "the broker's topics are not as declared, so nothing was accepted",
    "INVALID_SETTING": "a setting of the service is wrong or missing, so nothing was done",
}
"""The messages to a client when a service behind this one does not work; the log has the complete text."""
_FOR_OPERATORS = ("REFUSED", "TOPIC_MISMATCH", "INVALID_SETTING")
_CORRECT_FIRST = "Tell the operator: the log of the service says, with this request id, what to correct. Then: "
_UNAVAILABLE_OTHERWISE = "a service behind this one is unavailable"


def retry_after() -> dict[str, str]:
    """Return a Retry-After header of one to five seconds, at random, so that clients do not all retry at once."""
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


def describe_error(error: Exception, request_id: str, again: str = _SEND_AGAIN) -> ErrorText:
    """Return the text of ``error``, of any type, for a client; never internal details.

    ``again``: what a client does when a service behind this one does not work.
    """
    if isinstance(error, ApiError):
        headers = {**retry_after(), **error.headers} if error.status == 503 else error.headers
        return ErrorText(error.status, error.code, str(error), error.details, error.field, headers, error.errors)
    # Also for a wrong setting: a client must not lose what it sends because of an error that an operator can correct.
    # And disk, connection, time limit: never caused by the request, from any layer.
    if isinstance(error, TransientError | SettingsError | OSError):
        code = error_code(error)
        message = UNAVAILABLE_CODES.get(code, _UNAVAILABLE_OTHERWISE)
        details = f"{_CORRECT_FIRST}{again[0].lower()}{again[1:]}" if code in _FOR_OPERATORS else again
        return ErrorText(503, code, message, details, headers=retry_after())
    details = f"Nothing was accepted. Give the request id {request_id} to the operator of this service."
    return ErrorText(500, INTERNAL_ERROR, "the service failed at this request", details)

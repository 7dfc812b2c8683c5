"""Says of each error code that all HTTP APIs have what it means, and what a client does about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """Describes one code of errors."""

    status: str
    """The HTTP status, or where else it stands"""
    meaning: str
    advice: str


_ACCEPTED_LATER = "Send the same request again after Retry-After seconds; a frame that is sent twice counts once."
TELL_OPERATOR = "Nothing is wrong with the request. Tell the operator; the log of the service has the reason."

GENERAL_CODES: Mapping[str, ErrorCode] = {
    "BAD_REQUEST": ErrorCode("400", "The request is no valid HTTP.", "Correct the client, or the proxy before it."),
    "BODY_TOO_LARGE": ErrorCode("413", "The JSON body is larger than the limit.", "Send less in one request."),
    "BROKER_UNAVAILABLE": ErrorCode("503", "The message broker does not answer.", _ACCEPTED_LATER),
    "DATABASE_TOO_SLOW": ErrorCode("503", "The database took longer than the limit.", _ACCEPTED_LATER),
    "DATABASE_UNAVAILABLE": ErrorCode("503", "The database does not answer.", _ACCEPTED_LATER),
    "FILE_TOO_LARGE": ErrorCode(
        "400", "A file, or a body, is larger than the limit.", "Send a smaller one; the message has the limit."
    ),
    "INTERNAL_ERROR": ErrorCode("500", "The service failed at the request.", TELL_OPERATOR),
    "INVALID_SETTING": ErrorCode("503", "A setting of the service is wrong.", TELL_OPERATOR),
    "METHOD_NOT_ALLOWED": ErrorCode("405", "The path takes other methods.", "The header Allow names them."),
    "NOT_FOUND": ErrorCode("404", "There is no such path.", "/docs describes all paths."),
    "NOT_INSTALLED": ErrorCode(
        "501",
        "The server cannot do this, because an extra is not installed.",
        "Tell the operator; details has the command.",
    ),
    "OVERLOADED": ErrorCode(
        "503", "The service receives as many requests as it can hold.", "Send it again after Retry-After seconds."
    ),
    "RATE_LIMIT_EXCEEDED": ErrorCode(
        "429", "Too many requests within a minute.", "Wait for Retry-After seconds, and ask less often."
    ),
    "REFUSED": ErrorCode("503", "A service behind this one refuses its login or rights.", TELL_OPERATOR),
    "STORAGE_FULL": ErrorCode("503", "The disk or bucket for pictures is full.", _ACCEPTED_LATER),
    "STORAGE_UNAVAILABLE": ErrorCode("503", "The store for pictures does not answer.", _ACCEPTED_LATER),
    "TOPIC_MISMATCH": ErrorCode("503", "The broker's topics are not as declared.", TELL_OPERATOR),
    "UNAUTHORIZED": ErrorCode(
        "401", "The token or key is missing, unknown, revoked or expired.", "Ask the operator for a new one."
    ),
    "UNSUPPORTED_MEDIA_TYPE": ErrorCode(
        "415", "The Content-Type is not one of this path.", "/docs has those it takes."
    ),
    "UPLOAD_INCOMPLETE": ErrorCode("400", "The client disconnected before the end of the body.", "Send it again."),
    "UPLOAD_TIMEOUT": ErrorCode("408", "The body came too slowly.", "Send less at once, or over a faster connection."),
    "VALIDATION_ERROR": ErrorCode("400", "A parameter is unknown, missing or wrong.", "The field says which one."),
}


def codes_markdown(codes: Mapping[str, ErrorCode]) -> str:
    """Return ``codes`` as a Markdown table for the documentation."""
    lines = ["| code | status | meaning | what to do |", "| --- | --- | --- | --- |"]
    lines += [
        f"| `{code}` | {about.status} | {about.meaning} | {about.advice} |" for code, about in sorted(codes.items())
    ]
    return "\n".join(lines) + "\n"

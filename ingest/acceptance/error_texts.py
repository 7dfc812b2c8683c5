"""Makes the text of an error for a device, whichever way its frames come in."""

from __future__ import annotations

from infra.http_api.errors.texts import ErrorText, describe_error
from ingest.images.check import FileTooLargeError, ImageError

_IMAGE_DETAILS: tuple[tuple[type[ImageError], str], ...] = (
    (
        FileTooLargeError,
        "Send a smaller image, or upload it first as an original: POST /api/v1/originals says where, and how large it "
        "may be.",
    ),
    (ImageError, "The content decides, not the name or the Content-Type; the limits are settings of the gateway."),
)
"""What to do about an image that is not accepted; the first type that fits counts."""

_SEND_AGAIN = "Send the same request again after Retry-After seconds; what is sent twice counts once."


def describe_frame_error(error: Exception, request_id: str) -> ErrorText:
    """Return the text of ``error``, of any type, for a device; never internal details."""
    if isinstance(error, ImageError):
        details = next(text for kind, text in _IMAGE_DETAILS if isinstance(error, kind))
        return ErrorText(400, error.code, str(error), details, "image")
    return describe_error(error, request_id, _SEND_AGAIN)

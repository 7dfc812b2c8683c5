"""Lists the errors of the endpoints that take images, by status and code, with an example of each."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pydantic import JsonValue

from infra.http_api.errors.texts import UNAVAILABLE_CODES
from infra.http_api.openapi import error_example, error_response

Json = dict[str, JsonValue]
Examples = dict[str, tuple[str, str]]
"""By code: a message, and the wrong parameter ("": none)."""

_ERRORS: dict[str, Examples] = {
    "400": {
        "INVALID_FORMAT": (
            "not an image: JPEG, PNG, TIFF and WebP are accepted, but the content begins with 00 01 02 03",
            "image",
        ),
        "FILE_TOO_LARGE": (
            "the upload has 11000000 bytes; at most 10000000 are accepted for the image (gateway.max_image_bytes)",
            "image",
        ),
        "INVALID_DIMENSIONS": ("the image is 50000x50000 px; each side may have at most 16384", "image"),
        "CORRUPTED_FILE": ("the JPEG file has no end marker behind its scan; it was cut off", "image"),
        "TOO_COSTLY": ("the JPEG has more than 31 scans of 9600×9600 px; an ordinary picture has at most 14", "image"),
        "DIGEST_MISMATCH": ("the image that arrived has sha256 60303ae2…, the request says 9f86d081…", "sha256"),
        "INVALID_CAPTURE_TIME": ("captured_at is 2099-01-01T00:00:00.000000Z, which is in the future", "captured_at"),
        "VALIDATION_ERROR": ("unknown field 'altitude'", "altitude"),
    },
    "401": {"UNAUTHORIZED": ("the device token is not valid", "")},
    "403": {"ACCESS_DENIED": ("the token belongs to a different device than 'drone-2'", "device_id")},
    "404": {"IMAGE_NOT_STORED": ("no image with sha256 9f86d081… is stored that the proof belongs to", "sha256")},
    "408": {"UPLOAD_TIMEOUT": ("only 65536 bytes were received within 30 s", "")},
    "415": {"UNSUPPORTED_MEDIA_TYPE": ("Content-Type 'application/json' is not for images", "Content-Type")},
    "422": {
        "IMAGE_CORRUPT": ("no detector could process the frame: the JPEG ends early; 12 of 3000 rows have data", ""),
        "IMAGE_TOO_COSTLY": ("no detector could process the frame: decoding it took more than 20 s of CPU time", ""),
    },
    "426": {"UPGRADE_REQUIRED": ("this address is for WebSockets", "")},
    "429": {
        "RATE_LIMIT_EXCEEDED": (
            "this device has made 100 requests in a minute, which is the limit (limits.device_per_minute); nothing was "
            "read",
            "",
        )
    },
    "500": {
        "INTERNAL_ERROR": ("the service failed at this request", ""),
        "INFERENCE_ERROR": (
            "no detector could process the frame; its dead letter has the reason",
            "",
        ),
    },
    "503": {
        "OVERLOADED": ("the service has as many uploads in progress as it accepts; nothing was read", ""),
        "DETECTORS_BEHIND": (
            "the detectors are behind: 5120 frames of partition 3 of frames.live wait for them, and 5000 may "
            "(limits.max_lag_frames); nothing was read",
            "",
        ),
        **{code: (text, "") for code, text in UNAVAILABLE_CODES.items()},
    },
}
_FLIGHT_ERRORS: dict[str, Examples] = {
    "400": {
        "VALIDATION_ERROR": ("announced is -1; it must be a whole number of frames, from 0 to 10000000", "announced"),
        "FILE_TOO_LARGE": ("the upload has 5000 bytes; at most 4096 are accepted (a flight needs no more)", ""),
    },
    "404": {"FLIGHT_NOT_FOUND": ("this device has no flight 2026-01-31-north", "flight")},
    "409": {
        "FLIGHT_CLOSED": ("flight 2026-01-31-north was closed with 483 frames and cannot be closed with 480", "count"),
        "TOO_MANY_FLIGHTS": ("this device has 1000 open flights that it announced (gateway.max_open_flights)", ""),
    },
    "503": {
        **{code: (UNAVAILABLE_CODES[code], "") for code in ("DATABASE_UNAVAILABLE", "REFUSED")},
        "OVERLOADED": ("the gateway has 32 requests about flights in progress, as many as it accepts", ""),
    },
}
_ORIGINAL_ERRORS: dict[str, Examples] = {
    "400": {
        "VALIDATION_ERROR": ("media_type is 'image/gif'; accepted are image/jpeg, image/png, image/tiff", "media_type"),
        "FILE_TOO_LARGE": (
            "the upload has 300000000 bytes; at most 200000000 are accepted (gateway.max_original_bytes)",
            "size_bytes",
        ),
        "WRONG_SIZE": ("the upload has 179999999 bytes; 180000000 were said", "Content-Length"),
        "DIGEST_MISMATCH": ("the original that was uploaded has sha256 60303ae2…, but 9f86d081… was said", "sha256"),
    },
    "403": {"UPLOAD_REFUSED": ("the address of the upload has expired; ask for a new one", "")},
    "408": {"UPLOAD_TIMEOUT": ("nothing was received for 30 s, after 65536 bytes (gateway.body_timeout_s)", "")},
    "409": {
        "TOO_MANY_ORIGINALS": ("this device has 32 originals that are uploaded and not announced", ""),
        "WRONG_OFFSET": ("the upload continues at byte 65536, but 131072 bytes are here", "Content-Range"),
        "UPLOAD_IN_PROGRESS": ("another request is writing this upload; wait for it to end", ""),
    },
}
_BATCH_400: Examples = {
    "TOO_MANY_FILES": ("the batch has more than 50 images; at most 50 are accepted", "images"),
    "FILE_TOO_LARGE": (
        "the upload has 600000000 bytes; at most 502097152 are accepted (gateway.max_batch_images × "
        "gateway.max_image_bytes)",
        "images",
    ),
    "VALIDATION_ERROR": ("timestamp was given 2 times for 3 images; give it once, or once per image", "timestamp"),
    "INVALID_CAPTURE_TIME": ("timestamp is 'noon'; it must be RFC 3339, like 2026-01-31T12:00:00Z", "timestamp"),
}
_STATUS_TEXT = {
    "400": "The request or the image is wrong",
    "401": "No valid device token; the body was not read",
    "403": "The token belongs to a different device",
    "404": "The image that sha256 names is not stored: send it as the body",
    "408": "The body was sent too slowly",
    "409": "It contradicts what was said before, which stays",
    "415": "The Content-Type is not for images",
    "422": "The frame was accepted, but no detector can process it: the reason of its dead letter",
    "429": "The device or its address asks too often: send the same again after Retry-After seconds",
    "500": "The gateway or a detector failed",
    "426": "No handshake of a WebSocket",
    "503": "Busy, or a service is unavailable: send the same again after Retry-After seconds",
}
_ORIGINAL_TEXT = {"400": "The request is wrong", "403": "The address is not valid"}
_FLIGHT_TEXT = {"400": "The request is wrong", "404": "The device has no such flight"}
FRAME_STATUSES = ("400", "401", "403", "404", "408", "415", "429", "503")
BATCH_STATUSES = ("400", "401", "403", "408", "415", "429", "503")
KNOWN_STATUSES = ("400", "401", "408", "429", "503")
STREAM_STATUSES = ("400", "401", "403", "426", "429", "503")
DETECT_STATUSES = ("400", "401", "403", "404", "408", "415", "422", "429", "500", "503")


NO_DOCUMENT: dict[int | str, dict[str, Any]] = {
    404: {
        "description": "There is no such document",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}},
    }
}
"""The error of a document that is not there."""


def error_responses(statuses: Collection[str], *, batch: bool = False) -> Json:
    """Return the error responses with ``statuses``; those of a batch concern the request as a whole."""
    return {status: _error(status, _BATCH_400 if batch and status == "400" else _ERRORS[status]) for status in statuses}


def flight_error_responses(statuses: Collection[str]) -> Json:
    """Return the error responses with ``statuses`` of the endpoints of flights."""
    errors = {**_ERRORS, **_FLIGHT_ERRORS}
    return {status: _error(status, errors[status], _FLIGHT_TEXT.get(status)) for status in statuses}


def original_error_responses(statuses: Collection[str]) -> Json:
    """Return the error responses with ``statuses`` of the endpoints of originals."""
    errors = {**_ERRORS, **_ORIGINAL_ERRORS}
    return {status: _error(status, errors[status], _ORIGINAL_TEXT.get(status)) for status in statuses}


def _error(status: str, listed: Examples, text: str | None = None) -> Json:
    examples = {code: error_example(code, message, field=field or None) for code, (message, field) in listed.items()}
    return error_response(status, text or _STATUS_TEXT[status], examples)

"""Says of each error code of the live stream what it means; the codes that all HTTP APIs have are among them."""

from __future__ import annotations

from collections.abc import Mapping

from infra.http_api.errors.codes import GENERAL_CODES, ErrorCode

STREAM_CODES: Mapping[str, ErrorCode] = {
    "FORBIDDEN": ErrorCode(
        "403", "The key or token may not see a device that is asked for.", "Leave it out, or use a key that may."
    ),
    "INVALID_ADDRESS": ErrorCode(
        "403",
        "The address of a picture was changed, or its time is over.",
        "Use that of a newer event as it is.",
    ),
    "INVALID_FILTER": ErrorCode(
        "400", "A parameter of the live stream is unknown or wrong.", "The message says which one, and what it takes."
    ),
    "NOT_FOUND": ErrorCode(
        "404",
        "There is no such path, or, of the live stream, no such job or medium of the client.",
        "/docs describes all paths; check the id of the job or medium.",
    ),
    "SHUTTING_DOWN": ErrorCode(
        "503", "The server of the live stream is being stopped.", "Connect again after Retry-After seconds."
    ),
    "TOO_MANY_CLIENTS": ErrorCode(
        "503",
        "The live stream, or the address of the client, has as many clients as it may have.",
        "Close streams that are not needed, and connect again after Retry-After seconds.",
    ),
}
"""Those that no other API has, or that mean something else here"""
_PICTURES: Mapping[str, ErrorCode] = {
    code: ErrorCode("404", "The picture was removed, or damaged.", "Show the event without it.")
    for code in ("IMAGE_MISSING", "IMAGE_CORRUPT")
}
SSE_CODES: Mapping[str, ErrorCode] = {**GENERAL_CODES, **_PICTURES, **STREAM_CODES}

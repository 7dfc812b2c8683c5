"""Says of each error code of the console what it means; the codes of the gateway are among them."""

from __future__ import annotations

from collections.abc import Mapping

from ingest.gateway.error_codes import GATEWAY_CODES, ErrorCode

_OWN: Mapping[str, ErrorCode] = {
    "FILE_EXPIRED": ErrorCode(
        "410", "The bytes of the file were removed, because its upload is too old.", "Upload the picture again."
    ),
    "FILE_NOT_FOUND": ErrorCode("404", "There is no such file, or it belongs to another client.", "Check the file id."),
    "TOO_MANY_UPLOADS": ErrorCode(
        "409", "The client has too many uploads that no job has used.", "Use them, or delete some of them."
    ),
    "UPLOAD_IN_USE": ErrorCode("409", "A job that has not ended uses the upload.", "Wait for its end, or cancel it."),
    "UPLOAD_NOT_FOUND": ErrorCode(
        "404", "There is no such upload, or it has expired or belongs to another client.", "Upload the pictures again."
    ),
}
CONSOLE_CODES: Mapping[str, ErrorCode] = {**GATEWAY_CODES, **_OWN}

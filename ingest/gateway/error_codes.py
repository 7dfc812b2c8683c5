"""Says of each error code of the gateway what it means; the codes that all HTTP APIs have are among them."""

from __future__ import annotations

from collections.abc import Mapping

from infra.http_api.errors.codes import GENERAL_CODES, TELL_OPERATOR, ErrorCode

_OWN: Mapping[str, ErrorCode] = {
    "ACCESS_DENIED": ErrorCode(
        "403", "The token is valid, but belongs to another device.", "Leave device_id out, or send its own token."
    ),
    "CORRUPTED_FILE": ErrorCode(
        "400", "The file begins like a picture, but is cut off or contradicts itself.", "Send the whole original file."
    ),
    "DETECTORS_BEHIND": ErrorCode(
        "503", "More frames wait for the detectors than the operator allows.", "Send the frame again later."
    ),
    "DIGEST_MISMATCH": ErrorCode(
        "400", "The bytes that arrived have another SHA-256 than was said.", "Send them again with their own digest."
    ),
    "FILE_TOO_LARGE": ErrorCode(
        "400", "A file, or a body, is larger than the limit.", "Send a smaller one; frames may go by /api/v1/originals."
    ),
    "FLIGHT_CLOSED": ErrorCode("409", "The flight was closed with another count.", "Ask for the flight to see it."),
    "FLIGHT_NOT_FOUND": ErrorCode("404", "The device has no such flight.", "Look at the list of its flights."),
    "IMAGE_CORRUPT": ErrorCode(
        "422; of a picture of the live stream 404",
        "A detector could not decode the picture.",
        "Send the original file; this one is damaged inside.",
    ),
    "IMAGE_MISSING": ErrorCode(
        "422; of a picture of the live stream 404",
        "The stored picture was removed before it was read.",
        "Send it again.",
    ),
    "IMAGE_NOT_STORED": ErrorCode(
        "404", "No picture with this digest is stored that the proof belongs to.", "Send its bytes."
    ),
    "IMAGE_TOO_COSTLY": ErrorCode(
        "422", "Decoding the picture took more work than is allowed.", "Save it again in an ordinary way."
    ),
    "INFERENCE_ERROR": ErrorCode("500", "A detector failed at the frame.", TELL_OPERATOR),
    "INVALID_CAPTURE_TIME": ErrorCode(
        "400",
        "The capture time is missing, malformed or in the future.",
        "Give captured_at in RFC 3339 with a zone, or send a picture whose EXIF has it; set the clock.",
    ),
    "INVALID_DIMENSIONS": ErrorCode(
        "400", "A side of the picture is shorter or longer than is accepted.", "The message has both limits."
    ),
    "INVALID_FORMAT": ErrorCode(
        "400", "The content is no picture of an accepted format, whatever its name.", "Send JPEG, PNG or TIFF."
    ),
    "TOO_COSTLY": ErrorCode(
        "400", "Decoding the picture would take far more work than its size needs.", "Save it in an ordinary way."
    ),
    "TOO_MANY_FILES": ErrorCode("400", "More files than one request may have.", "Send them in several requests."),
    "TOO_MANY_FLIGHTS": ErrorCode("409", "The device has too many open flights.", "Close some of them."),
    "TOO_MANY_ORIGINALS": ErrorCode(
        "409", "Too many originals are uploaded and not announced.", "Announce them, or wait until they are removed."
    ),
    "UPGRADE_REQUIRED": ErrorCode("426", "The path is for WebSockets.", "Connect with a WebSocket client."),
    "UPLOAD_IN_PROGRESS": ErrorCode("409", "Another request writes this upload.", "Wait for it to end."),
    "UPLOAD_REFUSED": ErrorCode("403", "The address of the upload is wrong or has expired.", "Ask for a new one."),
    "WRONG_OFFSET": ErrorCode("409", "The upload continues at another byte.", "Ask with HEAD where it continues."),
    "WRONG_SIZE": ErrorCode("400", "The upload has another size than was said.", "Say the size that the file has."),
}
GATEWAY_CODES: Mapping[str, ErrorCode] = {**GENERAL_CODES, **_OWN}

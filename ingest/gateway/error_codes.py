"""Says of each error code of the gateway what it means, and what a client does about it."""

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


ACCEPTED_LATER = "Send the same request again after Retry-After seconds; the same frame is never counted twice."
_OPERATOR = "Nothing is wrong with the request. Tell the operator; the log of the service has the reason."

GATEWAY_CODES: Mapping[str, ErrorCode] = {
    "ACCESS_DENIED": ErrorCode(
        "403", "The token is valid, but belongs to another device.", "Leave device_id out, or send its own token."
    ),
    "BAD_REQUEST": ErrorCode("400", "The request is no valid HTTP.", "Correct the client, or the proxy before it."),
    "BODY_TOO_LARGE": ErrorCode("413", "The JSON body is larger than the limit.", "Send less in one request."),
    "BROKER_UNAVAILABLE": ErrorCode("503", "The message broker does not answer.", ACCEPTED_LATER),
    "CORRUPTED_FILE": ErrorCode(
        "400", "The file begins like a picture, but is cut off or contradicts itself.", "Send the whole original file."
    ),
    "DATABASE_TOO_SLOW": ErrorCode("503", "The database took longer than the limit.", ACCEPTED_LATER),
    "DATABASE_UNAVAILABLE": ErrorCode("503", "The database does not answer.", ACCEPTED_LATER),
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
        "422", "A detector could not decode the picture.", "Send the original file; this one is damaged inside."
    ),
    "IMAGE_MISSING": ErrorCode("422", "The stored picture was removed before it was read.", "Send it again."),
    "IMAGE_NOT_STORED": ErrorCode(
        "404", "No picture with this digest is stored that the proof belongs to.", "Send its bytes."
    ),
    "IMAGE_TOO_COSTLY": ErrorCode(
        "422", "Decoding the picture took more work than is allowed.", "Save it again in an ordinary way."
    ),
    "INFERENCE_ERROR": ErrorCode("500", "A detector failed at the frame.", _OPERATOR),
    "INTERNAL_ERROR": ErrorCode("500", "The service failed at the request.", _OPERATOR),
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
    "INVALID_SETTING": ErrorCode("503", "A setting of the service is wrong.", _OPERATOR),
    "METHOD_NOT_ALLOWED": ErrorCode("405", "The path takes other methods.", "The header Allow names them."),
    "NOT_FOUND": ErrorCode("404", "There is no such path.", "/docs describes all paths."),
    "OVERLOADED": ErrorCode(
        "503", "The service receives as many requests as it can hold.", "Send it again after Retry-After seconds."
    ),
    "RATE_LIMIT_EXCEEDED": ErrorCode(
        "429", "Too many requests within a minute.", "Wait for Retry-After seconds, and ask less often."
    ),
    "REFUSED": ErrorCode("503", "A service behind this one refuses its login or rights.", _OPERATOR),
    "STORAGE_FULL": ErrorCode("503", "The disk or bucket for pictures is full.", ACCEPTED_LATER),
    "STORAGE_UNAVAILABLE": ErrorCode("503", "The store for pictures does not answer.", ACCEPTED_LATER),
    "TOO_COSTLY": ErrorCode(
        "400", "Decoding the picture would take far more work than its size needs.", "Save it in an ordinary way."
    ),
    "TOO_MANY_FILES": ErrorCode("400", "More files than one request may have.", "Send them in several requests."),
    "TOO_MANY_FLIGHTS": ErrorCode("409", "The device has too many open flights.", "Close some of them."),
    "TOO_MANY_ORIGINALS": ErrorCode(
        "409", "Too many originals are uploaded and not announced.", "Announce them, or wait until they are removed."
    ),
    "TOPIC_MISMATCH": ErrorCode("503", "The broker's topics are not as declared.", _OPERATOR),
    "UNAUTHORIZED": ErrorCode(
        "401", "The token or key is missing, unknown, revoked or expired.", "Ask the operator for a new one."
    ),
    "UNSUPPORTED_MEDIA_TYPE": ErrorCode(
        "415", "The Content-Type is not one of this path.", "/docs has those it takes."
    ),
    "UPGRADE_REQUIRED": ErrorCode("426", "The path is for WebSockets.", "Connect with a WebSocket client."),
    "UPLOAD_INCOMPLETE": ErrorCode("400", "The client disconnected before the end of the body.", "Send it again."),
    "UPLOAD_IN_PROGRESS": ErrorCode("409", "Another request writes this upload.", "Wait for it to end."),
    "UPLOAD_REFUSED": ErrorCode("403", "The address of the upload is wrong or has expired.", "Ask for a new one."),
    "UPLOAD_TIMEOUT": ErrorCode("408", "The body came too slowly.", "Send less at once, or over a faster connection."),
    "VALIDATION_ERROR": ErrorCode("400", "A parameter is unknown, missing or wrong.", "The field says which one."),
    "WRONG_OFFSET": ErrorCode("409", "The upload continues at another byte.", "Ask with HEAD where it continues."),
    "WRONG_SIZE": ErrorCode("400", "The upload has another size than was said.", "Say the size that the file has."),
}


def codes_markdown(codes: Mapping[str, ErrorCode]) -> str:
    """Return ``codes`` as a Markdown table for the documentation."""
    lines = ["| code | status | meaning | what to do |", "| --- | --- | --- | --- |"]
    lines += [
        f"| `{code}` | {about.status} | {about.meaning} | {about.advice} |" for code, about in sorted(codes.items())
    ]
    return "\n".join(lines) + "\n"

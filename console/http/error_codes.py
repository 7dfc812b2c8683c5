"""Says of each error code of the console what it means; those of the gateway and of the live stream are among them."""

from __future__ import annotations

from collections.abc import Mapping

from infra.http_api.errors.codes import ErrorCode
from ingest.gateway.error_codes import GATEWAY_CODES
from sinks.sse.error_codes import STREAM_CODES

_IN_A_JOB = "500, in the error of a job or of its file"
_OWN: Mapping[str, ErrorCode] = {
    "FILE_EXPIRED": ErrorCode(
        "410", "The bytes of the file were removed, because its upload is too old.", "Upload the picture again."
    ),
    "FILE_ERROR": ErrorCode(
        _IN_A_JOB, "The file cannot be read as a picture, or was removed.", "Upload the original file again."
    ),
    "FILE_NOT_FOUND": ErrorCode("404", "There is no such file, or it belongs to another client.", "Check the file id."),
    "FORMAT_UNAVAILABLE": ErrorCode(
        "501",
        "The server cannot write the format, because a library is not installed.",
        "Ask for another format, or tell the operator.",
    ),
    "IDEMPOTENCY_KEY_REUSED": ErrorCode(
        "409", "Another request was sent with this key.", "Send a new Idempotency-Key with each new request."
    ),
    "INFERENCE_JOB_ENDED": ErrorCode(
        "409", "The inference job has ended otherwise than the call-back says.", "Ask for a new job."
    ),
    "INFERENCE_JOB_NOT_FOUND": ErrorCode(
        "404", "There is no such inference job, or it belongs to another client.", "Check the id of the job."
    ),
    "INVALID_CONFIG": ErrorCode(
        "400", "What is asked of a job is wrong or unknown.", "The list errors has each field, and what it takes."
    ),
    "JOB_ENDED": ErrorCode("409", "The job has ended.", "Look at its status; it cannot be cancelled any more."),
    "JOB_NOT_FOUND": ErrorCode("404", "There is no such job, or it belongs to another client.", "Check the job id."),
    "DETECTION_TIMEOUT": ErrorCode(
        "504", "No detector has answered in time.", "Send the picture again later, or as a medium of its own."
    ),
    "MEDIA_FETCH_FAILED": ErrorCode(
        "in the last event of a medium",
        "The bytes of the medium cannot be fetched.",
        "The message says why; check the address, the medium's id and the token, and ask again.",
    ),
    "MEDIA_NOT_FOUND": ErrorCode(
        "404", "There is no such medium, or it belongs to another client.", "Ask for it first: POST /detect/{media_id}."
    ),
    "MEDIA_RUNNING": ErrorCode("409", "The medium is being detected already.", "Watch the events of its stream."),
    "MEDIA_TOO_LARGE": ErrorCode(
        "in the last event of a medium",
        "The medium has more bytes or frames than is accepted.",
        "Send a shorter video, or choose fewer of its frames with sampling.",
    ),
    "MODEL_LOAD_ERROR": ErrorCode(
        _IN_A_JOB, "The model that the job asks for cannot be loaded.", "Ask for a version that is in the model store."
    ),
    "NOTHING_TO_RETRY": ErrorCode(
        "409", "The job has not ended, or has no failed files.", "Look at its status; ask for a new job instead."
    ),
    "PATH_REFUSED": ErrorCode(
        "403", "A path is in a bucket, or in a folder, that the client may not name.", "Name one that details has."
    ),
    "RESULTS_NOT_READY": ErrorCode(
        "404", "The job, or the file, has no results: it has not ended, or has failed.", "Look at the job's status."
    ),
    "VISUALIZATION_DISABLED": ErrorCode(
        "404", "The job was asked for without pictures.", "Ask for a job with pictures, or use its results."
    ),
    "STORAGE_ERROR": ErrorCode(
        _IN_A_JOB, "The result of the file could not be stored.", "Retry the job; else tell the operator."
    ),
    "TOO_MANY_JOBS": ErrorCode(
        "409", "The client has too many jobs that have not ended.", "Wait until some have ended, or cancel them."
    ),
    "TOO_MANY_MEDIA": ErrorCode(
        "409", "The client has too many media that have not ended.", "Wait until some have ended."
    ),
    "TOO_MANY_UPLOADS": ErrorCode(
        "409", "The client has too many uploads that no job has used.", "Use them, or delete some of them."
    ),
    "TOO_MANY_WATCHERS": ErrorCode(
        "503", "Too many streams of progress are open.", "Ask for the status instead, or try again later."
    ),
    "TOO_MANY_WEBHOOKS": ErrorCode(
        "409", "The client has as many web-hooks as it may have.", "Delete those that are no longer used."
    ),
    "INVALID_VIDEO": ErrorCode(
        "in the last event of a medium",
        "The content is no picture and no video that can be read, or is damaged.",
        "Send the whole original file.",
    ),
    "WEBHOOK_NOT_FOUND": ErrorCode(
        "404", "There is no such web-hook, or it belongs to another client.", "Check the id of the web-hook."
    ),
    "UPLOAD_IN_USE": ErrorCode("409", "A job that has not ended uses the upload.", "Wait for its end, or cancel it."),
    "UPLOAD_NOT_FOUND": ErrorCode(
        "404", "There is no such upload, or it has expired or belongs to another client.", "Upload the pictures again."
    ),
}
CONSOLE_CODES: Mapping[str, ErrorCode] = {**GATEWAY_CODES, **STREAM_CODES, **_OWN}

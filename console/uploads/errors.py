"""Defines the errors of uploads and their files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from infra.http_api.errors.api_errors import ApiError
from infra.texts import counted


class UploadNotFoundError(ApiError):
    """There is no such upload of this client, or it has expired."""

    code = "UPLOAD_NOT_FOUND"
    status = 404


class FileNotFoundInUploadError(ApiError):
    """There is no such file of this client."""

    code = "FILE_NOT_FOUND"
    status = 404


class FileExpiredError(ApiError):
    """The bytes of the file were removed after the days that uploads are kept."""

    code = "FILE_EXPIRED"
    status = 410


class TooManyFilesError(ApiError):
    """The upload has more files than one may have."""

    code = "TOO_MANY_FILES"


class TooManyUploadsError(ApiError):
    """The client has too many uploads that no job has used."""

    code = "TOO_MANY_UPLOADS"
    status = 409


class UploadInUseError(ApiError):
    """A job that has not ended uses the upload."""

    code = "UPLOAD_IN_USE"
    status = 409


@dataclass(frozen=True, slots=True)
class FileFault:
    """Says of one file of an upload why it is not accepted."""

    filename: str
    code: str
    message: str


class FilesRefusedError(ApiError):
    """One file or several of an upload are not accepted; nothing of it is kept. The code is that of the first."""

    def __init__(self, faults: Sequence[FileFault]) -> None:
        first = faults[0]
        others = len(faults) - 1
        more = (
            f"; {counted(others, 'other file')} {'is' if others == 1 else 'are'} not accepted either" if others else ""
        )
        super().__init__(
            f"{first.filename}: {first.message}{more}",
            details="Nothing of the upload was kept. Leave out the files listed in errors, or correct them, and send "
            "it again.",
            field="files",
            errors=[{"filename": each.filename, "error": each.message, "code": each.code} for each in faults],
        )
        self.code = first.code  # type: ignore[misc]  # each instance has that of its first file


def upload_not_found(upload_id: str) -> UploadNotFoundError:
    """Return the error for an upload that this client does not have."""
    return UploadNotFoundError(
        f"there is no upload {upload_id[:60]!r}",
        details="It has expired, was deleted, or is another client's; upload the pictures again.",
        field="upload_id",
    )


def file_not_found(file_id: str) -> FileNotFoundInUploadError:
    """Return the error for a file that this client does not have."""
    return FileNotFoundInUploadError(f"there is no file {file_id[:60]!r}", field="file_id")

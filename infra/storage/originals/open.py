"""Opens the place of uploads that belongs to the frame store of the settings."""

from __future__ import annotations

from pathlib import Path

from infra.errors import SettingsError
from infra.extras import install_extra
from infra.storage.originals.folder import FolderUploads
from infra.storage.originals.port import OriginalUploads
from infra.storage.settings import FrameSettings


def open_uploads(settings: FrameSettings, data_dir: Path, *, max_bytes: int) -> OriginalUploads:
    """Return the uploads of the frame store for ``settings``; no server or disk is contacted.

    ``max_bytes``: of one original. Raises SettingsError when the library for S3 is not installed.
    """
    if settings.kind == "folder":
        folder = settings.folder or data_dir / "frames"
        return FolderUploads(folder, max_bytes=settings.max_bytes, min_free_bytes=settings.min_free_bytes)
    try:
        # Imported here, because the library is an extra and takes a third of a second to import.
        from infra.storage.originals.s3 import S3Uploads  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"STANDGALE_FRAMES__KIND=s3 needs the library {error.name!r}, which is not installed; {install_extra('s3')}"
        ) from error
    return S3Uploads(settings, data_dir / "originals", max_bytes=max_bytes)

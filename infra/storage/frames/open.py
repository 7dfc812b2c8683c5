"""Opens the frame store that the settings name."""

from __future__ import annotations

from pathlib import Path

from infra.errors import SettingsError
from infra.extras import install_extra
from infra.storage.frames.folder import FolderFrameStore
from infra.storage.frames.port import FrameStore
from infra.storage.settings import FrameSettings


def open_frame_store(settings: FrameSettings, data_dir: Path) -> FrameStore:
    """Return the frame store for ``settings``; without a folder in them, it is ``data_dir``/frames.

    No server or disk is contacted; call :meth:`FrameStore.check` for that. Raises SettingsError when the library for S3
    is not installed.
    """
    if settings.kind == "folder":
        folder = settings.folder or data_dir / "frames"
        return FolderFrameStore(folder, max_bytes=settings.max_bytes, min_free_bytes=settings.min_free_bytes)
    try:
        # Imported here, because the library is an extra and takes a third of a second to import.
        from infra.storage.frames.s3 import S3FrameStore  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"STANDGALE_FRAMES__KIND=s3 needs the library {error.name!r}, which is not installed; {install_extra('s3')}"
        ) from error
    return S3FrameStore(settings, data_dir / "originals")

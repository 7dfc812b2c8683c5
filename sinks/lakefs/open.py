"""Opens the archive that the settings name."""

from __future__ import annotations

from pathlib import Path

from infra.storage.frames.port import FrameStore
from sinks.lakefs.folder_archive import FolderArchive
from sinks.lakefs.lakefs_archive import LakeFsArchive
from sinks.lakefs.port import Archive
from sinks.lakefs.settings import LakeFsSettings


def open_archive(settings: LakeFsSettings, data_dir: Path, store: FrameStore) -> Archive:
    """Return the archive of ``settings``; its default folder is ``data_dir``/archive. Reaches nothing yet."""
    folder = settings.folder_in(data_dir)
    if folder is None:
        return LakeFsArchive(settings, store)
    return FolderArchive(folder, settings.repository, settings.branch, store)

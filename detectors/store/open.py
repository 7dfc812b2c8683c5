"""Opens the model store that the settings name."""

from __future__ import annotations

from pathlib import Path

from detectors.settings import ModelStoreSettings
from detectors.store.blobs import Blobs, OnTransfer, ignore_transfer
from detectors.store.folder import FolderBlobs
from detectors.store.versions import VersionStore
from infra.errors import SettingsError
from infra.extras import install_extra


def open_model_store(
    settings: ModelStoreSettings, data_dir: Path, on_transfer: OnTransfer = ignore_transfer
) -> VersionStore:
    """Open the model store of ``settings``; its default folder is ``data_dir``/models.

    ``on_transfer`` is called during each transfer. Does not wait for a server. Raises SettingsError when a library is
    not installed, ModelStoreUnavailableError when the folder cannot be created.
    """
    return VersionStore(open_blobs(settings, data_dir), settings.max_file_bytes, on_transfer)


def open_blobs(settings: ModelStoreSettings, data_dir: Path) -> Blobs:
    """Open the blobs that the store is built on. Raises as :func:`open_model_store`."""
    if settings.kind == "folder":
        return FolderBlobs(settings.folder or data_dir / "models")
    # Imported only when used: the library for S3 is an extra, and all take time to import.
    try:
        if settings.kind == "s3":
            from detectors.store.s3 import S3Blobs  # noqa: PLC0415

            return S3Blobs(settings)
        if settings.kind == "lakefs":
            from detectors.store.lakefs import LakeFsBlobs  # noqa: PLC0415

            return LakeFsBlobs(settings)
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"STANDGALE_MODELS__KIND={settings.kind} needs the library {error.name!r}, which is not installed; "
            f"{install_extra(settings.kind)}"
        ) from error
    from detectors.store.loader import LoaderBlobs  # noqa: PLC0415

    return LoaderBlobs(settings)

"""Opens what the commands of data sets need from the settings, and closes it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from console.datasets.create import DatasetParts
from console.datasets.stores.folder import FolderDatasets
from console.datasets.stores.lakefs import LakeFsDatasets
from console.datasets.stores.port import DatasetStore
from infra.storage.frames.open import open_frame_store
from sinks.lakefs.lakefs_archive import access_of
from standgale.opening import open_database
from standgale.settings import Settings


@asynccontextmanager
async def opened_datasets(settings: Settings) -> AsyncIterator[DatasetStore]:
    """Give the store of data sets: DATA_DIR/datasets, or the LakeFS repository of the archive."""
    store = _store(settings)
    try:
        yield store
    finally:
        await store.close()


def _store(settings: Settings) -> DatasetStore:
    lakefs = settings.lakefs
    if lakefs.kind == "folder":
        return FolderDatasets(settings.datasets_folder)
    return LakeFsDatasets(access_of(lakefs), settings.retry)


@asynccontextmanager
async def opened_parts(settings: Settings) -> AsyncIterator[DatasetParts]:
    """Give what making a data set needs."""
    async with opened_datasets(settings) as store, open_database(settings) as database:
        frames = open_frame_store(settings.frames, settings.data_dir)
        try:
            yield DatasetParts(database, frames, store, settings.datasets, f"standgale {version('standgale')}")
        finally:
            await frames.close()

"""A site with pictures, and both stores of data sets."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from console.datasets.stores.folder import FolderDatasets
from console.datasets.stores.lakefs import LakeFsDatasets
from console.datasets.stores.port import DatasetStore
from infra.database.pool import Database
from infra.failure.settings import RetrySettings
from infra.lakefs.access import LakeFsAccess
from infra.storage.frames.folder import FolderFrameStore
from tests.harnesses.datasets import DatasetSite
from tests.harnesses.real_lakefs import create_repository, real_lakefs_is_there
from tests.servers.lakefs import ACCESS_KEY, SECRET_KEY, LakeFsServer

RETRY = RetrySettings(first_delay_s=0.01, max_delay_s=0.05)


@pytest.fixture
async def site(database: Database, tmp_path: Path) -> AsyncIterator[DatasetSite]:
    """No picture yet."""
    frames = FolderFrameStore(tmp_path / "frames")
    yield DatasetSite(database, frames)
    await frames.close()


@pytest.fixture
def lakefs_server(tmp_path: Path) -> Iterator[LakeFsServer]:
    """The double, with short pages."""
    with LakeFsServer(tmp_path / "lakefs") as server:
        server.page = 7
        yield server


def lakefs_store(server: LakeFsServer, timeout_s: float = 5.0) -> LakeFsDatasets:
    """Return a store of data sets on the double."""
    access = LakeFsAccess(server.url, SecretStr(ACCESS_KEY), SecretStr(SECRET_KEY), "bird-detection", timeout_s)
    return LakeFsDatasets(access, RETRY)


@pytest.fixture(params=["folder", "lakefs", *(["real"] if real_lakefs_is_there() else [])])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[DatasetStore]:
    """Each of both stores, and a real LakeFS where STANDGALE_TEST_LAKEFS_URL names one."""
    if request.param == "folder":
        yield FolderDatasets(tmp_path / "datasets")
        return
    if request.param == "real":
        names = ("access_key", "secret_key")
        keys = {name: SecretStr(os.environ[f"STANDGALE_TEST_LAKEFS_{name.upper()}"]) for name in names}
        url = os.environ["STANDGALE_TEST_LAKEFS_URL"].rstrip("/")
        found = LakeFsDatasets(LakeFsAccess(url, repository=create_repository(), **keys), RETRY)
    else:
        found = lakefs_store(request.getfixturevalue("lakefs_server"))
    yield found
    await found.close()

"""A folder and a real S3 server keep the frame store contract."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import pytest

from infra.deploy.s3 import S3Server
from infra.storage.frames.open import open_frame_store
from infra.storage.settings import FrameSettings
from standgale.testing.frame_store import FrameStoreContract, FrameStoreHarness


class FileHarness(FrameStoreHarness):
    """A harness on a store whose objects are files on this machine."""

    def path_of(self, uri: str) -> Path:
        raise NotImplementedError

    def content(self, uri: str) -> bytes:
        return self.path_of(uri).read_bytes()

    def overwrite(self, uri: str, data: bytes) -> None:
        self.path_of(uri).write_bytes(data)

    def make_old(self, uri: str, age_s: float) -> None:
        then = time.time() - age_s
        os.utime(self.path_of(uri), (then, then))


class FolderHarness(FileHarness):
    def __init__(self, folder: Path) -> None:
        self._root, self._away = folder / "frames and more", folder / "away"
        super().__init__(partial(open_frame_store, FrameSettings(folder=self._root), folder))

    def path_of(self, uri: str) -> Path:
        return Path(unquote(urlsplit(uri).path))

    def take_away(self) -> None:
        self._root.rename(self._away)

    def bring_back(self) -> None:
        self._away.rename(self._root)


class S3Harness(FileHarness):
    def __init__(self, server: S3Server, folder: Path) -> None:
        self._server = server
        settings = server.settings(prefix=f"frames-{uuid4().hex}", timeout_s=5.0)
        super().__init__(partial(open_frame_store, settings, folder))

    def path_of(self, uri: str) -> Path:
        return self._server.data_dir / uri.removeprefix("s3://")

    def take_away(self) -> None:
        self._server.kill()

    def bring_back(self) -> None:
        self._server.start()


@pytest.fixture(scope="module")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("s3") / "buckets") as server:
        yield server


class TestFrameStore(FrameStoreContract):
    @pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.integration)])
    async def harness(self, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[FrameStoreHarness]:
        if request.param == "folder":
            harness: FrameStoreHarness = FolderHarness(tmp_path)
        else:
            harness = S3Harness(request.getfixturevalue("s3_server"), tmp_path)
        yield harness
        await harness.store.close()

"""Gives the tests an archive in a folder and in the LakeFS double."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.harnesses.archive import ArchiveHarness, LakeFsHarness, archive_harness, lakefs_harness


@pytest.fixture
async def lakefs(tmp_path: Path) -> AsyncIterator[LakeFsHarness]:
    async with lakefs_harness(tmp_path) as harness:
        yield harness


@pytest.fixture(params=["folder", "lakefs"])
async def archive(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ArchiveHarness]:
    async with archive_harness(request.param, tmp_path) as harness:
        yield harness

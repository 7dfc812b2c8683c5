"""Data sets whose making is killed at every step: complete, or not there."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from console.datasets.stores.folder import FolderDatasets
from tests.harnesses.datasets import DatasetSite
from tests.paths import ROOT
from tests.servers.lakefs import LakeFsServer

pytestmark = pytest.mark.integration


async def killed_at_every_step(**about: str) -> list[Mapping[str, object]]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "tests.harnesses.dataset_kills", json.dumps(about)),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0
    return [json.loads(line) for line in printed.splitlines()]


@pytest.mark.parametrize("kind", ["folder", "lakefs"])
async def test_kill_at_every_step_leaves_all_or_nothing(
    site: DatasetSite, shared_dsn: str, lakefs_server: LakeFsServer, tmp_path: Path, kind: str
) -> None:
    await site.add("cam-1", [("bird", 0.9)])
    whole = (await site.create(FolderDatasets(tmp_path / "others"), formats=("yolo",))).manifest
    where = {"folder": str(tmp_path / "datasets")} if kind == "folder" else {"lakefs": lakefs_server.url}
    steps = await killed_at_every_step(dsn=shared_dsn, frames=str(tmp_path / "frames"), **where)
    assert len(steps) > 8
    assert [step["status"] for step in steps] == [*[-9] * (len(steps) - 1), 0]
    assert all(step["there"] in ([], ["unfinished"], [whole.id], [whole.id, "unfinished"]) for step in steps)
    assert all((step["again"], step["after"]) == (0, [whole.id]) for step in steps), "the same command completes it"
    if kind == "lakefs":
        repository = lakefs_server.repositories["bird-detection"]
        assert len(repository.tags) == len(steps)
        assert all(repository.branches[tag].head == commit for tag, commit in repository.tags.items())

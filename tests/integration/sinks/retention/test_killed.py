"""A run that is killed at any of its steps leaves nothing half removed: the next run ends it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from infra.database.pool import Database
from tests.harnesses.retention import Frame, RetentionSite
from tests.harnesses.retention_process import FolderArchive
from tests.paths import ROOT

pytestmark = pytest.mark.integration

FRAMES = [Frame(0, 100), Frame(1, 95, 0.3), Frame(2, 50), Frame(3, 10, 0.5), Frame(4, 99, 0.9)]
ORPHAN = Frame(9, 5)
# Two may stay: the confident one, and of the others the one with a detection.
LEFT = {FRAMES[3].digest, FRAMES[4].digest}


async def fill(site: RetentionSite, archive: FolderArchive) -> None:
    await site.execute("TRUNCATE devices, retention_intents, retention_owner, retention_runs CASCADE")
    await site.add(FRAMES)
    site.put(ORPHAN)
    for frame in FRAMES:
        (archive.folder / f"images_cam-1_{frame.number}.jpg").touch()


async def test_a_run_killed_at_every_step_leaves_no_orphans(
    tmp_path: Path, database: Database, shared_dsn: str
) -> None:
    site, archive = RetentionSite(tmp_path / "frames", database), FolderArchive(tmp_path / "archive")
    archive.folder.mkdir()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "tests.harnesses.retention_process", shared_dsn, str(tmp_path)),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    for step in range(200):
        await fill(site, archive)
        process.stdin.write(f"{step}\n".encode())
        ended = (await process.stdout.readline()).decode().strip()
        if ended == "done":
            break
        assert ended == "killed"
        # Its lease would end after two minutes.
        await site.execute("DELETE FROM retention_owner")
        await site.retention(archive, max_total_gb=0.000_002).run()
        assert site.stored() == await site.rows() == LEFT, step
        assert sorted(path.name for path in archive.folder.iterdir()) == ["images_cam-1_3.jpg", "images_cam-1_4.jpg"]
        assert await site.value("SELECT count(*) FROM retention_intents") == 0
    process.stdin.close()
    await process.wait()
    assert ended == "done"
    assert step > 30
    assert site.stored() == await site.rows() == LEFT
    found = await site.retention().audit()
    assert (found.orphans.pictures, found.missing) == (0, 0)

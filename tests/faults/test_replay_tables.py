"""Frames that are replayed again change no table: detectors and sinks hold each detection once (C-S2-124, row I8)."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path

import asyncpg
import pytest

from bench.processes import home
from standgale.children import standgale_command
from tests.harnesses.replay_site import write_pictures
from tests.paths import ROOT

pytestmark = pytest.mark.faults

COUNT = 12
_TABLES = ("images", "detections")


async def rows(dsn: str) -> dict[str, list[tuple[object, ...]]]:
    connection = await asyncpg.connect(dsn)
    try:
        found = {each: await connection.fetch(f"SELECT * FROM {each} ORDER BY id") for each in _TABLES}
    finally:
        await connection.close()
    # The archive notes in the row of an image which commit has it, when there is one.
    return {
        name: [tuple(value for column, value in row.items() if not column.startswith("lakefs_")) for row in table]
        for name, table in found.items()
    }


async def until_images(dsn: str, count: int) -> None:
    for _ in range(300):
        if len((await rows(dsn))["images"]) >= count:
            return
        await asyncio.sleep(0.2)
    raise AssertionError(f"fewer than {count} images")


async def replay(data: Path, pictures: Path, *options: str) -> dict[str, object]:
    def run() -> subprocess.CompletedProcess[str]:
        command = standgale_command("replay", str(pictures), "--device", "drone-7", "--json", *options)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "STANDGALE_DATA_DIR": str(data)}
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
        )

    result = await asyncio.to_thread(run)
    assert result.returncode == 0, result.stderr
    found: dict[str, object] = json.loads(result.stdout)
    return found


async def test_replay_with_restart_changes_no_table(tmp_path: Path) -> None:
    data, pictures = tmp_path / "data", tmp_path / "pictures"
    write_pictures(pictures, COUNT)
    async with home(data) as place, place.standgale("up", port_setting="STANDGALE_GATEWAY__PORT"):
        assert (await replay(data, pictures))["accepted"] == COUNT
        await until_images(place.dsn, COUNT)
        await asyncio.sleep(1.0)
        before = await rows(place.dsn)
        assert (await replay(data, pictures))["already_done"] is True
        assert (await replay(data, pictures, "--restart"))["accepted"] == COUNT
        # A new frame after them: when it is in the tables, the others were processed.
        write_pictures(pictures, 1, first=COUNT)
        assert (await replay(data, pictures, "--again"))["accepted"] == 1
        await until_images(place.dsn, COUNT + 1)
        after = await rows(place.dsn)
        assert all(row in after["images"] for row in before["images"])
        assert len(after["images"]) == COUNT + 1
        assert set(before["detections"]) <= set(after["detections"])

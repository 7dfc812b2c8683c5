"""Checks model stores whose processes are killed or work in parallel, and the memory of a transfer."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from standgale.testing.factories import model_ref
from standgale.testing.gate import TIMEOUT_S
from standgale.testing.model_store import LARGE, MEGABYTE, files_below, make_model, require_no_version
from tests.harnesses.model_stores import SettingsHarness, kinds, model_store_harness


@pytest.fixture(params=kinds())
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SettingsHarness]:
    with model_store_harness(request.param, tmp_path / "harness") as harness:
        yield harness
        await harness.close()


async def started(harness: SettingsHarness, *arguments: str) -> asyncio.subprocess.Process:
    """`standgale model …` on this harness's store, in a process of its own."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "standgale",
        "model",
        *arguments,
        env=harness.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


async def finished(process: asyncio.subprocess.Process) -> str:
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err.decode()
    return out.decode()


async def killed_in_the_middle(harness: SettingsHarness, folder: Path, direction: str, *arguments: str) -> None:
    """Start a transfer and SIGKILL it: at a gate held half-way, or in a folder as soon as a part of a file shows."""
    if harness.gate is not None:
        harness.gate.limit("down" if direction == "down" else "up", LARGE // 2, "hold")
        process = await started(harness, *arguments)
        assert await asyncio.to_thread(harness.gate.reached.wait, TIMEOUT_S)
    else:
        process = await started(harness, *arguments)
        deadline = time.monotonic() + TIMEOUT_S
        while not any(path.stat().st_size > 0 for path in folder.rglob("*") if path.is_file()):
            assert time.monotonic() < deadline
            assert process.returncode is None
            await asyncio.sleep(0)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    if harness.gate is not None:
        harness.gate.reopen()


async def test_killed_pull_leaves_no_version_and_can_be_repeated(harness: SettingsHarness, tmp_path: Path) -> None:
    into = tmp_path / "fetched"
    size = LARGE if harness.gate is not None else 5 * LARGE
    card = make_model(tmp_path / "mine", size=size, tokenizer=True)
    await harness.store().publish(card)
    pull = ("pull", "finder", "1.0.0", "--into", str(into))
    await killed_in_the_middle(harness, into, "down", *pull)
    assert not (into / "finder").exists()
    assert await finished(await started(harness, *pull)) == f"{into / 'finder' / '1.0.0' / 'model.yaml'}\n"
    shown = files_below(into / "finder" / "1.0.0")
    assert shown == files_below(card.parent)
    age_by_a_day(into / ".fetching")
    await harness.store().publish(make_model(tmp_path / "next", version="2.0.0"))
    await harness.store().fetch(model_ref("2.0.0"), into)
    assert list((into / ".fetching").iterdir()) == [], "what the killed one left is swept"


def age_by_a_day(folder: Path) -> None:
    yesterday = time.time() - 86_400
    for path in sorted(folder.rglob("*"), reverse=True):
        os.utime(path, (yesterday, yesterday))


async def test_killed_push_is_not_visible_and_can_be_repeated(harness: SettingsHarness, tmp_path: Path) -> None:
    size = LARGE if harness.gate is not None else 5 * LARGE
    card = make_model(tmp_path / "mine", size=size)
    folder = harness.settings.folder or tmp_path
    await killed_in_the_middle(harness, folder, "up", "push", str(card))
    await require_no_version(harness, tmp_path)
    await finished(await started(harness, "push", str(card)))
    await harness.store().fetch(model_ref(), tmp_path / "fetched")
    assert files_below(tmp_path / "fetched" / "finder" / "1.0.0") == files_below(card.parent)


async def test_two_processes_pull_the_same_version_at_once(harness: SettingsHarness, tmp_path: Path) -> None:
    await harness.store().publish(make_model(tmp_path / "mine", size=LARGE))
    pull = ("pull", "finder", "1.0.0", "--into", str(tmp_path / "fetched"))
    processes = [await started(harness, *pull) for _ in range(2)]
    assert len({await finished(process) for process in processes}) == 1
    assert len(files_below(tmp_path / "fetched")) == 2


MEASURE = """
import asyncio, sys
from pathlib import Path
from detectors.store.open import open_model_store
from standgale.settings import load_settings
from schemas.events import ModelRef

settings = load_settings()

def peak_kib():
    # Not getrusage: its value begins with the peak of the process that started this one.
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])

async def main():
    store = open_model_store(settings.models, settings.data_dir)
    await store.publish(Path(sys.argv[1]))
    await store.fetch(ModelRef(name="finder", version="1.0.0"), Path(sys.argv[3]))
    before = peak_kib()
    await store.publish(Path(sys.argv[2]))
    await store.fetch(ModelRef(name="finder", version="2.0.0"), Path(sys.argv[3]))
    await store.close()
    print(peak_kib() - before)

asyncio.run(main())
"""


async def test_memory_of_transfer_does_not_grow_with_the_model(harness: SettingsHarness, tmp_path: Path) -> None:
    small = make_model(tmp_path / "small", size=LARGE)
    large = make_model(tmp_path / "large", version="2.0.0", size=5 * LARGE)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        MEASURE,
        str(small),
        str(large),
        str(tmp_path / "fetched"),
        env=harness.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    grown_kib = int(await finished(process))
    assert grown_kib < 40 * 1024, f"{4 * LARGE // MEGABYTE} MiB more took {grown_kib // 1024} MiB more memory"

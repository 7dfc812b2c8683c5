"""What unit tests share: no child processes, and a broker for tests of consumers and of dead letters."""

from __future__ import annotations

import gc
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from infra.broker.port import Reader
from schemas.topics import load_topics
from tests.harnesses.sink_runs import FaultyBroker

# uname: Python asks it for the processor.
_SMALL_PROGRAMS = ("uname", "git", "mount", "umount")


# What is imported and collected stays to the end: looking through it again and again took seconds of each process.
gc.disable()


def pytest_collection_finish() -> None:
    """Let the garbage collector look at what tests make, and not at modules and the tests themselves."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def no_child_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a test that starts a process: this tier runs in seconds. Such tests belong to tests/integration."""

    start = subprocess.Popen.__init__

    def start_if_small(self: subprocess.Popen[bytes], command: Any, *more: Any, **options: Any) -> None:
        program = command if isinstance(command, str) else str(command[0])
        if program not in _SMALL_PROGRAMS:
            pytest.fail(f"a unit test starts {program}; move it to tests/integration")
        start(self, command, *more, **options)

    monkeypatch.setattr(subprocess.Popen, "__init__", start_if_small)


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[FaultyBroker]:
    """An embedded broker in the test's own folder that a test can put faults into."""
    broker = FaultyBroker(tmp_path / "broker.sqlite", load_topics())
    yield broker
    await broker.close()


@pytest.fixture
async def reader(broker: FaultyBroker) -> AsyncIterator[Reader]:
    reader = await broker.reader()
    yield reader
    await reader.close()

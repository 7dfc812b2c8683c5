"""Runs `standgale edge` in a process of its own on a folder of pictures, kills it, and reads its spool."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from PIL import Image

from ingest.edge.status import EdgeStatus, read_status
from tests.faults.forked import ForkedProcess
from tests.paths import ROOT
from tests.servers.gateway import TOKEN

QUICK = {
    "STANDGALE_EDGE__FIRST_DELAY_S": "0.02",
    "STANDGALE_EDGE__MAX_DELAY_S": "0.2",
    "STANDGALE_EDGE__SETTLE_S": "0.2",
    "STANDGALE_EDGE__SCAN_S": "1",
    "STANDGALE_EDGE__MIN_FREE_BYTES": "0",
}


def small_jpeg(number: int) -> bytes:
    """Return a 256×256 JPEG of some 2 kB, different for each number, without EXIF."""
    blocks = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(blocks.repeat(32, axis=0).repeat(32, axis=1)).save(out, "JPEG", quality=60)
    return out.getvalue()


def written_at(number: int) -> float:
    """Return the time of writing of picture ``number``: one second after the one before."""
    return 1_767_225_600.0 + number


def captured_at(number: int) -> datetime:
    return datetime.fromtimestamp(written_at(number), UTC)


@dataclass
class EdgeProcess:
    """Starts and ends the process; folder and spool stay."""

    folder: Path
    spool: Path
    url: str
    token: str = TOKEN
    environment: dict[str, str] = field(default_factory=dict)
    log: Path | None = None
    process: ForkedProcess | None = None

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.log = self.log or self.spool.with_suffix(".log")

    def write(self, number: int) -> Path:
        """Put picture ``number`` into the folder as a camera does: under another name, then renamed."""
        path = self.folder / f"{number:06d}.jpg"
        hidden = path.with_name(f".{path.name}")
        hidden.write_bytes(small_jpeg(number))
        os.utime(hidden, (written_at(number), written_at(number)))
        hidden.rename(path)
        return path

    def start(self, *options: str) -> None:
        assert self.log is not None
        given = {"STANDGALE_EDGE__URL": self.url, "STANDGALE_EDGE__TOKEN": self.token}
        given |= {"STANDGALE_EDGE__FOLDER": str(self.folder), "STANDGALE_EDGE__SPOOL": str(self.spool)}
        others = {name: text for name, text in os.environ.items() if not name.startswith("STANDGALE_")}
        environment = {**others, "PYTHONPATH": str(ROOT), **QUICK, **given, **self.environment}
        self.process = ForkedProcess(("edge", *options), environment, self.log)

    def kill(self) -> None:
        """Send SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> int:
        """Send SIGTERM; return the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(20)
        self.process = None
        return status

    def status(self) -> EdgeStatus:
        return read_status(self.spool)

    def logged(self) -> str:
        assert self.log is not None
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    async def wait_until(self, reached: Callable[[EdgeStatus], bool], timeout_s: float = 60.0) -> EdgeStatus:
        """Wait until the status is as wanted; fail when the process ends, or after ``timeout_s``."""
        deadline = time.monotonic() + timeout_s
        while True:
            found = self.status()
            if reached(found):
                return found
            assert self.process is None or self.process.poll() is None, f"the edge client ended: {self.logged()}"
            assert time.monotonic() < deadline, f"{found}\n{self.logged()[-4000:]}"
            await asyncio.sleep(0.05)

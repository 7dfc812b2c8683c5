"""Runs `standgale replay` in a process on a data folder of its own, kills it, and reads the backfill topic."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from infra.broker.embedded.adapter import EmbeddedBroker
from infra.broker.open import embedded_file
from infra.broker.port import OutRecord, TopicPartition
from infra.broker.reading import read_between
from schemas.cloudevents import decode
from schemas.events import FrameCaptured
from schemas.topics import FRAMES_BACKFILL, load_topics
from standgale.children import standgale_command
from tests.faults.forked import ForkedProcess
from tests.harnesses.edge_process import small_jpeg, written_at
from tests.paths import ROOT


def write_pictures(folder: Path, count: int, first: int = 0) -> None:
    """Write small JPEGs, each with a time of its own, in folders of 1,000."""
    for number in range(first, first + count):
        path = folder / f"{number // 1_000:03d}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(small_jpeg(number))
        os.utime(path, (written_at(number), written_at(number)))


@dataclass
class ReplaySite:
    """Holds the data folder; ``environment`` has more settings."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def broker(self) -> EmbeddedBroker:
        return EmbeddedBroker(embedded_file(self.data), load_topics())

    async def prepare(self) -> None:
        """Make the broker's file and its topics."""
        self.data.mkdir(parents=True, exist_ok=True)
        await self.publish([])

    async def publish(self, records: list[OutRecord]) -> None:
        broker = self.broker()
        publisher = await broker.publisher()
        await publisher.publish(records)
        await publisher.close()
        await broker.close()

    def start(self, *arguments: str) -> ForkedProcess:
        """Start the verb; the output goes to replay.log."""
        return ForkedProcess(("replay", *arguments), self._environment(), self.folder / "replay.log")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the verb to its end."""
        return subprocess.run(
            standgale_command("replay", *arguments),
            cwd=ROOT,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=1_800,
            check=False,
        )

    def log(self) -> str:
        return (self.folder / "replay.log").read_text(errors="replace")

    def wait_and_kill(self, process: ForkedProcess, after_s: float) -> bool:
        """Send SIGKILL after a time; return whether the process ran until then."""
        deadline = time.monotonic() + after_s
        while time.monotonic() < deadline:
            if process.poll() is not None:
                return False
            time.sleep(0.005)
        process.kill()
        process.wait()
        return True

    async def frames(self, topic: str = FRAMES_BACKFILL) -> list[FrameCaptured]:
        """Return all events of a topic, by partition in order."""
        broker = self.broker()
        reader = await broker.reader()
        found: list[FrameCaptured] = []
        for partition, (first, end) in sorted((await reader.bounds(topic)).items()):
            records = read_between(reader, TopicPartition(topic, partition), first, end)
            found += [decode(each.headers, each.value, FrameCaptured) async for each in records]
        await reader.close()
        await broker.close()
        return found

    def _environment(self) -> dict[str, str]:
        others = {name: text for name, text in os.environ.items() if not name.startswith("STANDGALE_")}
        own = {"STANDGALE_DATA_DIR": str(self.data), "STANDGALE_REPLAY__FIRST_DELAY_S": "0.05"}
        return {**others, "PYTHONPATH": str(ROOT), **own, **self.environment}

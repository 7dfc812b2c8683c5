"""A sink in a separate process, to be killed: ``consuming_member.py '{"crash": "after write", …}'``.

It writes frames into a SQLite table, idempotently by frame id, and counts every write. ``crash`` names the moment at
which the process kills itself with SIGKILL, after a few batches; without one it works until SIGTERM.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import orjson

from infra.broker.open import open_broker
from infra.broker.port import Broker, CommitPoint, Consumer, GroupSpec, OutRecord, TopicPartition
from infra.broker.settings import BrokerSettings
from infra.consuming.consumer_loop import SinkRunner
from infra.consuming.settings import BatchSettings
from infra.errors import RecordError
from infra.failure.settings import RetrySettings
from infra.process.components import run_components
from infra.process.health import Health
from infra.process.service import run_service
from infra.telemetry.logs import configure_logging
from infra.telemetry.settings import TelemetrySettings
from schemas.events import FrameCaptured
from schemas.topics import TopicSpec

POISON = 7
"""Frames whose number ends in this digit can't be written."""


class TableSink:
    """Frames in a SQLite table; the primary key makes a second write of the same frame harmless."""

    event = FrameCaptured

    def __init__(self, name: str, topic: str, path: Path, crash: str | None) -> None:
        self.name = name
        self.topics = (topic,)
        self._path = path
        self._crash = crash
        self._batches = 0

    async def open(self) -> None:
        self._database = sqlite3.connect(self._path, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("CREATE TABLE IF NOT EXISTS frames (number INTEGER PRIMARY KEY, device TEXT NOT NULL)")
        self._database.execute("CREATE TABLE IF NOT EXISTS writes (number INTEGER NOT NULL)")

    async def write(self, events: Sequence[FrameCaptured]) -> None:
        rows = [(event.frame_id.int, event.device_id) for event in events]
        self._database.execute("BEGIN IMMEDIATE")
        try:
            self._database.executemany("INSERT INTO frames VALUES (?, ?) ON CONFLICT DO NOTHING", rows)
            self._database.executemany("INSERT INTO writes VALUES (?)", [(number,) for number, _ in rows])
            bad = [number for number, _ in rows if number % 10 == POISON]
            if bad:
                raise RecordError(f"frame {bad[0]} can't be written")
            self._crash_at("in write")
            self._database.execute("COMMIT")
        except RecordError:
            self._database.execute("ROLLBACK")
            raise
        self._batches += 1
        self._crash_at("after write")

    async def close(self) -> None:
        self._database.close()

    def crash_at_commit(self, moment: str) -> None:
        self._crash_at(moment)

    def _crash_at(self, moment: str) -> None:
        if self._crash == moment and self._batches >= 2:
            os.kill(os.getpid(), signal.SIGKILL)


class CrashingConsumer:
    """Commits as the real one does, with moments to die at."""

    def __init__(self, inner: Consumer, sink: TableSink) -> None:
        self._inner = inner
        self._sink = sink
        self.poll = inner.poll
        self.assignment = inner.assignment
        self.lag = inner.lag
        self.losses = inner.losses
        self.close = inner.close

    async def commit(self, points: Mapping[TopicPartition, CommitPoint], outputs: Sequence[OutRecord] = ()) -> None:
        """Commit, or die before or after it."""
        if outputs:
            self._sink.crash_at_commit("before dead letter")
        await self._inner.commit(points, outputs)
        self._sink.crash_at_commit("after commit")


class CrashingBroker:
    """Hands out the crashing consumer; a sink needs nothing else of a broker."""

    def __init__(self, inner: Broker, sink: TableSink) -> None:
        self._inner = inner
        self._sink = sink
        self.publisher = inner.publisher
        self.reader = inner.reader
        self.admin = inner.admin
        self.close = inner.close

    async def consumer(self, spec: GroupSpec) -> Consumer:
        """See the port."""
        return CrashingConsumer(await self._inner.consumer(spec), self._sink)


async def main() -> int:
    """Run the sink with the options of the command line."""
    options = orjson.loads(sys.argv[1])
    configure_logging(TelemetrySettings(log_level="WARNING"), service=options["name"])
    topics = {spec["name"]: TopicSpec.model_validate(spec) for spec in options["topics"]}
    broker = open_broker(BrokerSettings.model_validate(options["settings"]), Path(options["data_dir"]), topics)
    source, dead, redrive = topics
    sink = TableSink(options["name"], source, Path(options["table"]), options["crash"])
    runner = SinkRunner(
        sink,
        CrashingBroker(broker, sink),
        batches=BatchSettings(batch_records=20, batch_wait_s=0.0),
        retry=RetrySettings(first_delay_s=0.01, max_delay_s=0.1),
        instance_id=options["instance_id"],
        dead_topic=dead,
        redrive_topic=redrive,
    )
    try:
        return await run_components([runner], health=Health(), drain_timeout_s=20)
    finally:
        await broker.close()


if __name__ == "__main__":
    sys.exit(run_service(main))

"""Gives a test the embedded broker in a folder of its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

from infra.broker.embedded.file.sql import OFFSET_BITS
from infra.broker.open import embedded_file, open_broker
from infra.broker.settings import BrokerSettings
from schemas.topics import TopicSpec
from standgale.testing.broker.harness import TIMEOUT_S, BrokerHarness


class EmbeddedHarness(BrokerHarness):
    """A harness on the embedded broker, whose file is in ``data_dir``."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(partial(open_broker, BrokerSettings(kind="embedded"), data_dir))
        self._path = embedded_file(data_dir)

    async def delete_topics(self, names: Sequence[str]) -> None:
        """See :class:`BrokerHarness`."""
        with self._file() as file:
            for name in names:
                file.execute(
                    "DELETE FROM records WHERE id >> ? IN (SELECT slot FROM partitions WHERE topic = ?)",
                    (OFFSET_BITS, name),
                )
                file.execute("DELETE FROM partitions WHERE topic = ?", (name,))
                file.execute("DELETE FROM topics WHERE name = ?", (name,))

    async def add_partitions(self, topic: TopicSpec, partitions: int) -> None:
        """See :class:`BrokerHarness`."""
        with self._file() as file:
            new = [(topic.name, number) for number in range(topic.partitions, partitions)]
            file.executemany("INSERT INTO partitions (topic, partition) VALUES (?, ?)", new)
            file.execute("UPDATE groups SET generation = generation + 1")

    @contextmanager
    def _file(self) -> Iterator[sqlite3.Connection]:
        """The embedded broker's file, in a write transaction."""
        with closing(sqlite3.connect(self._path, timeout=TIMEOUT_S)) as file, file:
            yield file

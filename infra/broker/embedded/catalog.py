"""Topics as they stand in the file: reading, comparing with their declarations, and bringing them in line."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from infra.broker.partitioning import check_count
from infra.broker.port import TopicDifference, TopicState
from infra.errors import TopicMismatchError
from schemas.topics import TopicSpec

_SETTINGS = ("retention_s", "max_message_bytes", "cleanup")


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic of the file; ``slots`` has the row of each partition, in their order."""

    name: str
    slots: tuple[int, ...]
    retention_s: int
    max_message_bytes: int
    cleanup: str


def load(connection: sqlite3.Connection) -> dict[str, Topic]:
    """All topics of the file by name."""
    slots: dict[str, list[int]] = {}
    for name, slot in connection.execute("SELECT topic, slot FROM partitions ORDER BY topic, partition"):
        slots.setdefault(name, []).append(slot)
    rows = connection.execute("SELECT name, retention_s, max_message_bytes, cleanup FROM topics")
    return {row[0]: Topic(row[0], tuple(slots[row[0]]), *row[1:]) for row in rows}


def find(topics: Mapping[str, Topic], name: str, declared: Mapping[str, TopicSpec]) -> Topic:
    """The topic called ``name``; raises TopicMismatchError when there is none, or with other partitions than declared.

    Another process, started with another topics.yaml, may have changed the file meanwhile.
    """
    topic = topics.get(name)
    if topic is None:
        raise TopicMismatchError(
            f"topic {name!r} does not exist on the embedded broker, it has {sorted(topics)}; declare it in topics.yaml "
            "and run `windhover topics apply`"
        )
    check_count(declared, name, len(topic.slots), "the embedded broker")
    return topic


def state(connection: sqlite3.Connection, name: str, declared: Mapping[str, TopicSpec]) -> TopicState:
    """How many partitions the topic has, and which incarnation of it this is. Raises TopicMismatchError."""
    slots = find(load(connection), name, declared).slots
    # Slots are never given out twice in one file, and each file has a number of its own.
    (file,) = connection.execute("PRAGMA application_id").fetchone()
    return TopicState(len(slots), f"{file & 0xFFFFFFFF:08x}-{slots[0]:x}")


def compare(topics: Mapping[str, Topic], specs: Collection[TopicSpec]) -> list[TopicDifference]:
    """What of ``topics`` differs from ``specs``. Replication has no meaning in one file and is left out."""
    differences = []
    for spec in specs:
        topic = topics.get(spec.name)
        if topic is None:
            differences.append(TopicDifference(spec.name, "topic", "present", "absent", fixable=True))
            continue
        if len(topic.slots) != spec.partitions:
            # Another count moves keys to other partitions, and with it breaks their order.
            found = str(len(topic.slots))
            differences.append(TopicDifference(spec.name, "partitions", str(spec.partitions), found, fixable=False))
        for what in _SETTINGS:
            declared, present = str(getattr(spec, what)), str(getattr(topic, what))
            if declared != present:
                differences.append(TopicDifference(spec.name, what, declared, present, fixable=True))
    return differences


def mend(connection: sqlite3.Connection, specs: Collection[TopicSpec]) -> list[TopicDifference]:
    """Create and alter topics; all differences there were. Must run in a write transaction."""
    differences = compare(load(connection), specs)
    absent = {found.topic for found in differences if found.what == "topic"}
    altered = {found.topic for found in differences if found.fixable} - absent
    for spec in specs:
        if spec.name in absent:
            connection.execute(
                "INSERT INTO topics VALUES (?, ?, ?, ?, ?)",
                (spec.name, spec.partitions, spec.retention_s, spec.max_message_bytes, spec.cleanup),
            )
            connection.executemany(
                "INSERT INTO partitions (topic, partition) VALUES (?, ?)",
                [(spec.name, partition) for partition in range(spec.partitions)],
            )
        elif spec.name in altered:
            connection.execute(
                "UPDATE topics SET retention_s = ?, max_message_bytes = ?, cleanup = ? WHERE name = ?",
                (spec.retention_s, spec.max_message_bytes, spec.cleanup, spec.name),
            )
    return differences


def refuse(differences: Collection[TopicDifference]) -> None:
    """Raise TopicMismatchError when there is any difference, naming each."""
    if differences:
        told = "; ".join(f"{one.topic}: {one.what} {one.declared} declared, {one.found} found" for one in differences)
        raise TopicMismatchError(
            f"the embedded broker cannot be brought in line: {told}; declare what is there, or use another data_dir"
        )

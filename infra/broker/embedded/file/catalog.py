"""Reads the topics of the file, compares them with their declarations, and changes them to match."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from infra.broker import growth
from infra.broker.checks import check_count
from infra.broker.port import TopicDifference, TopicState
from infra.errors import TopicMismatchError
from schemas.topics import TopicSpec

WHERE = "the embedded broker"
"""The broker's name in messages."""
_SETTINGS = ("retention_s", "max_message_bytes", "cleanup")


@dataclass(frozen=True, slots=True)
class StoredTopic:
    """Describes one topic of the file."""

    name: str
    slots: tuple[int, ...]
    """The row of each partition, in their order."""
    retention_s: int
    max_message_bytes: int
    cleanup: str


def load_topics(connection: sqlite3.Connection) -> dict[str, StoredTopic]:
    """Return all topics of the file by name."""
    slots: dict[str, list[int]] = {}
    for name, slot in connection.execute("SELECT topic, slot FROM partitions ORDER BY topic, partition"):
        slots.setdefault(name, []).append(slot)
    rows = connection.execute("SELECT name, retention_s, max_message_bytes, cleanup FROM topics")
    return {row[0]: StoredTopic(row[0], tuple(slots[row[0]]), *row[1:]) for row in rows}


def find_topic(topics: Mapping[str, StoredTopic], name: str, declared: Mapping[str, TopicSpec]) -> StoredTopic:
    """Return the topic called ``name``. Raises TopicMismatchError when it is missing or its count is not the declared.

    Another process, started with a different topics.yaml, may have changed the file.
    """
    topic = topics.get(name)
    if topic is None:
        raise TopicMismatchError(
            f"topic {name!r} does not exist on {WHERE}, it has {sorted(topics)}; declare it in topics.yaml and "
            "run `standgale topics apply`"
        )
    check_count(declared, name, len(topic.slots), WHERE)
    return topic


def check_topics(connection: sqlite3.Connection, names: Collection[str], declared: Mapping[str, TopicSpec]) -> None:
    """Raise TopicMismatchError, as :func:`find_topic` does, unless the file has all topics called ``names``."""
    topics = load_topics(connection)
    for name in names:
        find_topic(topics, name, declared)


def topic_state(connection: sqlite3.Connection, name: str, declared: Mapping[str, TopicSpec]) -> TopicState:
    """Return the partition count and the incarnation of the topic. Raises TopicMismatchError."""
    slots = find_topic(load_topics(connection), name, declared).slots
    # A slot is never used twice in one file, and each file has its own number.
    (file,) = connection.execute("PRAGMA application_id").fetchone()
    return TopicState(len(slots), f"{file:08x}-{slots[0]:x}")


def compare_topics(connection: sqlite3.Connection, specs: Collection[TopicSpec]) -> list[TopicDifference]:
    """Return how the file's topics differ from ``specs``. Replication has no meaning in one file and is left out."""
    topics = load_topics(connection)
    counts = {name: len(topic.slots) for name, topic in topics.items()}
    lags = {spec.name: _lags(connection, topics[spec.name]) for spec in growth.topics_to_grow(specs, counts)}
    differences = growth.count_differences(specs, counts, lags)
    for spec in specs:
        topic = topics.get(spec.name)
        if topic is None:
            differences.append(TopicDifference(spec.name, "topic", "present", "absent", fixable=True))
            continue
        for what in _SETTINGS:
            declared, present = str(getattr(spec, what)), str(getattr(topic, what))
            if declared != present:
                differences.append(TopicDifference(spec.name, what, declared, present, fixable=True))
    return differences


def _lags(connection: sqlite3.Connection, topic: StoredTopic) -> dict[str, int]:
    """Return the groups that have not read all of ``topic``, and how many records each has left."""
    rows = connection.execute(
        "SELECT group_name, sum(p.next_offset - max(first_offset, coalesce(c.next_offset, 0))) FROM cursors c "
        "JOIN partitions p USING (slot) WHERE topic = ? GROUP BY group_name",
        (topic.name,),
    )
    return {group: lag for group, lag in rows if lag > 0}


def apply_topics(connection: sqlite3.Connection, specs: Collection[TopicSpec]) -> list[TopicDifference]:
    """Create, alter and grow topics, and return all differences there were. Call it in a write transaction.

    Nothing is changed when any of them cannot be corrected; see :func:`infra.broker.growth.raise_for_differences`.
    """
    differences = compare_topics(connection, specs)
    if not all(found.fixable for found in differences):
        return differences
    absent = {found.topic for found in differences if found.what == "topic"}
    growing = {found.topic for found in differences if found.what == "partitions"}
    altered = {found.topic for found in differences} - absent
    for spec in specs:
        if spec.name in absent:
            connection.execute(
                "INSERT INTO topics VALUES (?, ?, ?, ?, ?)",
                (spec.name, spec.partitions, spec.retention_s, spec.max_message_bytes, spec.cleanup),
            )
            _add_partitions(connection, spec, 0)
        elif spec.name in altered:
            connection.execute(
                "UPDATE topics SET partitions = ?, retention_s = ?, max_message_bytes = ?, cleanup = ? WHERE name = ?",
                (spec.partitions, spec.retention_s, spec.max_message_bytes, spec.cleanup, spec.name),
            )
        if spec.name in growing:
            _add_partitions(connection, spec, spec.grown_from or 0)
    if growing:
        # Each member reads its topics again; one that declares a different count waits from now on.
        connection.execute("UPDATE groups SET generation = generation + 1")
    return differences


def _add_partitions(connection: sqlite3.Connection, spec: TopicSpec, first: int) -> None:
    new = [(spec.name, partition) for partition in range(first, spec.partitions)]
    connection.executemany("INSERT INTO partitions (topic, partition) VALUES (?, ?)", new)

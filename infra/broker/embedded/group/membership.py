"""Keeps the members of groups and the owners of partitions in the file, and commits only for the present owner.

Ownership is stored in the file and changes in the same transactions as commits, so two members can never commit the
same partition: a commit names the epoch of its records, and the epoch grows whenever the owner changes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from secrets import randbelow

import orjson

from infra.broker.embedded.file.log import Transaction, append
from infra.broker.embedded.group.known_groups import now_ms as _now_ms
from infra.broker.embedded.group.known_groups import record_sign_of_life
from infra.broker.port import CommitPoint, GroupSpec, OutRecord, TopicPartition
from infra.errors import PartitionLostError, SettingsError

_BEATS_PER_SESSION = 4
_PAUSES_IN_TIME = 1.5
"""A heartbeat within this many pauses after the one before it is not late."""
_FIRST_EPOCHS = 1 << 40
"""A group that begins again after it was deleted has other epochs, so that a process that was frozen knows none."""
_NEW_MEMBER_GRACE = 3
"""How many sessions a new member waits after the end of another member's session."""


@dataclass(frozen=True, slots=True)
class GroupMember:
    """Identifies one process in a group."""

    spec: GroupSpec
    member: str
    """Its name in the group."""
    incarnation: str
    """Changes with each process that uses the name."""


@dataclass(frozen=True, slots=True)
class Ownership:
    """Describes a partition that the member owns."""

    source: TopicPartition
    slot: int
    epoch: int
    start: int
    """The offset where the group continues."""
    first: int
    """The first offset that the partition still has."""


@dataclass(frozen=True, slots=True)
class OwnedPartitions:
    """Lists what a member owns in one generation of its group."""

    generation: int
    partitions: tuple[Ownership, ...]


def join(transaction: Transaction, me: GroupMember) -> None:
    """Make ``me`` a member; a static member of the same name is replaced, keeps its partitions, and is fenced."""
    group = me.spec.group
    connection = transaction.connection
    for name in me.spec.topics:
        transaction.topic(name)
    former = _incarnation(connection, me)
    connection.execute("INSERT INTO groups VALUES (?, 0) ON CONFLICT DO NOTHING", (group,))
    record_sign_of_life(connection, group)
    connection.execute(
        "INSERT OR REPLACE INTO members VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            group,
            me.member,
            me.incarnation,
            orjson.dumps(sorted(set(me.spec.topics))).decode(),
            me.spec.start,
            _now_ms(),
            int(me.spec.session_timeout_s * 1000),
        ),
    )
    if former is not None and former != me.incarnation:
        connection.execute(
            "UPDATE cursors SET epoch = epoch + 1 WHERE group_name = ? AND member = ?", (group, me.member)
        )
        _start_generation(connection, group)
    # A new member does not know yet how slow the disk is, so it removes only members that are silent for very long.
    _remove_expired(connection, group, grace_ms=_NEW_MEMBER_GRACE * int(me.spec.session_timeout_s * 1000))
    _assign_partitions(transaction, group)


def leave(transaction: Transaction, me: GroupMember) -> None:
    """End the membership, unless another process has taken it over, and give its partitions to the others."""
    deleted = transaction.connection.execute(
        "DELETE FROM members WHERE group_name = ? AND member = ? AND incarnation = ?",
        (me.spec.group, me.member, me.incarnation),
    )
    if deleted.rowcount:
        _assign_partitions(transaction, me.spec.group)


def send_heartbeat(transaction: Transaction, me: GroupMember) -> None:
    """Record that ``me``, if still a member, is alive, and remove members whose session has ended.

    On a slow disk the heartbeats of all members are late. So the others get more time: as much as this heartbeat is
    late, twice, because two heartbeats can be pending.
    """
    connection = transaction.connection
    identity = (me.spec.group, me.member, me.incarnation)
    row = connection.execute(
        "SELECT beat_ms FROM members WHERE group_name = ? AND member = ? AND incarnation = ?", identity
    ).fetchone()
    if row is None:
        return
    now_ms = _now_ms()
    connection.execute(
        "UPDATE members SET beat_ms = ? WHERE group_name = ? AND member = ? AND incarnation = ?", (now_ms, *identity)
    )
    record_sign_of_life(connection, me.spec.group)
    late_ms = now_ms - row[0] - int(_PAUSES_IN_TIME * heartbeat_interval_s(me.spec) * 1000)
    if _remove_expired(connection, me.spec.group, grace_ms=2 * max(0, late_ms)):
        _assign_partitions(transaction, me.spec.group)


def heartbeat_interval_s(spec: GroupSpec) -> float:
    """Return how long a member waits between two heartbeats."""
    return spec.session_timeout_s / _BEATS_PER_SESSION


def _incarnation(connection: sqlite3.Connection, me: GroupMember) -> str | None:
    query = "SELECT incarnation FROM members WHERE group_name = ? AND member = ?"
    row = connection.execute(query, (me.spec.group, me.member)).fetchone()
    return None if row is None else str(row[0])


def _remove_expired(connection: sqlite3.Connection, group: str, grace_ms: int) -> bool:
    """Remove members whose session ended more than ``grace_ms`` ago; return whether there were any."""
    # A heartbeat in the future is from before the machine's last start, which ended its member.
    now_ms = _now_ms()
    removed = connection.execute(
        "DELETE FROM members WHERE group_name = ? AND (beat_ms + session_ms < ? OR beat_ms > ?)",
        (group, now_ms - grace_ms, now_ms),
    )
    return removed.rowcount > 0


def _start_generation(connection: sqlite3.Connection, group: str) -> None:
    connection.execute("UPDATE groups SET generation = generation + 1 WHERE name = ?", (group,))


def _assign_partitions(transaction: Transaction, group: str) -> None:
    """Give every partition to the member of its range, with a new epoch where the owner changes."""
    connection = transaction.connection
    members = connection.execute(
        "SELECT member, topics, start FROM members WHERE group_name = ? ORDER BY member", (group,)
    ).fetchall()
    wanted = _owner_by_slot(transaction, [(member, orjson.loads(topics)) for member, topics, _ in members])
    starts = {member: start for member, _, start in members}
    owners: dict[int, str | None] = dict(
        connection.execute("SELECT slot, member FROM cursors WHERE group_name = ?", (group,)).fetchall()
    )
    changed = [slot for slot in wanted.keys() | owners.keys() if wanted.get(slot) != owners.get(slot)]
    for slot in changed:
        member = wanted.get(slot)
        # "latest" becomes a committed offset at once, so that the next owner starts there too.
        start = transaction.end(slot) if member is not None and starts[member] == "latest" else None
        connection.execute(
            "INSERT INTO cursors VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET member = excluded.member, "
            "epoch = epoch + 1, next_offset = coalesce(next_offset, excluded.next_offset)",
            (group, slot, member, randbelow(_FIRST_EPOCHS), start),
        )
    if changed:
        _start_generation(connection, group)


def _owner_by_slot(transaction: Transaction, members: Sequence[tuple[str, list[str]]]) -> dict[int, str]:
    """Return the member for each slot: per topic, contiguous ranges over its subscribers, ordered by name."""
    wanted: dict[int, str] = {}
    for name in sorted(set(chain.from_iterable(topics for _, topics in members))):
        subscribers = [member for member, topics in members if name in topics]
        slots = transaction.slots(name)
        share, larger = divmod(len(slots), len(subscribers))
        counts = (share + (index < larger) for index in range(len(subscribers)))
        order = chain.from_iterable([member] * count for member, count in zip(subscribers, counts, strict=True))
        wanted.update(zip(slots, order, strict=True))
    return wanted


def read_owned(connection: sqlite3.Connection, me: GroupMember, known: int) -> OwnedPartitions | None:
    """Return what ``me`` owns when the group has changed since generation ``known``; else None.

    Raises PartitionLostError when ``me`` is no longer a member (join again), SettingsError when another process has
    taken its static membership over.
    """
    group = me.spec.group
    incarnation = _incarnation(connection, me)
    if incarnation is None:
        raise PartitionLostError(f"{me.member} is no longer a member of group {group}: its heartbeat was late")
    if incarnation != me.incarnation:
        raise SettingsError(
            f"instance_id {me.spec.instance_id!r} of group {group}: another process has joined under this name after "
            "this one and has taken its partitions; give each process its own name, or stop one"
        )
    (generation,) = connection.execute("SELECT generation FROM groups WHERE name = ?", (group,)).fetchone()
    if generation == known:
        return None
    rows = connection.execute(
        "SELECT topic, partition, slot, epoch, coalesce(c.next_offset, first_offset), first_offset FROM cursors c "
        "JOIN partitions p USING (slot) WHERE group_name = ? AND member = ? ORDER BY topic, partition",
        (group, me.member),
    )
    return OwnedPartitions(generation, tuple(Ownership(TopicPartition(*row[:2]), *row[2:]) for row in rows))


def commit(
    transaction: Transaction,
    me: GroupMember,
    points: Mapping[int, tuple[TopicPartition, CommitPoint]],
    outputs: Sequence[OutRecord],
) -> PartitionLostError | None:
    """Append ``outputs`` and commit ``points`` (by slot), or commit nothing and return the reason.

    When some partitions of ``points`` are lost, the others get a new epoch. Their records were polled for a commit that
    never happens; in the new epoch they are polled again, and nothing of the old epoch can be committed any more.
    """
    group = me.spec.group
    connection = transaction.connection
    rows = connection.execute("SELECT slot, epoch FROM cursors WHERE group_name = ? AND member = ?", (group, me.member))
    epochs: dict[int, int] = dict(rows.fetchall())
    lost = [source for slot, (source, done) in points.items() if epochs.get(slot) != done.epoch]
    if lost:
        kept = [(group, slot) for slot, (_, done) in points.items() if epochs.get(slot) == done.epoch]
        connection.executemany("UPDATE cursors SET epoch = epoch + 1 WHERE group_name = ? AND slot = ?", kept)
        if kept:
            _start_generation(connection, group)
        names = ", ".join(f"{topic}/{partition}" for topic, partition in lost)
        return PartitionLostError(
            f"group {group}: {names} moved to another member, or to this one again; nothing was committed, their "
            "owner will process the records"
        )
    append(transaction, outputs)
    connection.executemany(
        "UPDATE cursors SET next_offset = ? WHERE group_name = ? AND slot = ?",
        [(done.next_offset, group, slot) for slot, (_, done) in points.items()],
    )
    return None

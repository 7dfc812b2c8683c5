"""Accounts for every accepted frame: in the topic, in the tables, at each live client, in the order of its device."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from infra.broker.port import Reader, TopicPartition
from infra.broker.reading import read_between
from schemas import topics
from schemas.cloudevents import decode
from schemas.events import DeadLetter, DetectionsMade
from tests.campaign.clients import LiveClient
from tests.campaign.site import Site
from tests.faults.fleet import Device


@dataclass
class Account:
    """The result for all frames: each frame with the places where it is missing or stored more than once."""

    accepted: int = 0
    lost: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    doubled: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    out_of_order: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    dead_letters: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    """Frames and detections that no accepted frame explains, with the place."""


@dataclass(frozen=True)
class Frames:
    """Holds the accepted frames, and names them so that a person can find them."""

    by_device: Mapping[str, Sequence[UUID]]

    @property
    def all(self) -> set[UUID]:
        return {frame for frames in self.by_device.values() for frame in frames}

    def names(self) -> dict[UUID, str]:
        return {
            frame: f"{device} #{number} {frame}"
            for device, frames in self.by_device.items()
            for number, frame in enumerate(frames)
        }


async def reconcile(site: Site, devices: Sequence[Device], clients: Sequence[LiveClient]) -> Account:
    """Compare the accepted frames with the topic, the tables and the live clients."""
    frames = Frames({device.device_id: device.accepted for device in devices})
    account = Account(accepted=len(frames.all))
    async with site.broker.open_client() as broker:
        reader = await broker.reader()
        events = await detections_events(reader)
        account.dead_letters = [each async for each in _letters(reader)]
        await reader.close()
    compare(account, frames, "topic", [event.frame_id for event in events])
    compare_order(account, frames, "topic", [(event.device_id, event.frame_id) for event in events])
    await _compare_tables(site, account, frames, events)
    for client in clients:
        # A client drops repeated events and counts them.
        compare(account, frames, client.name, [frame for _, frame in client.frames])
        compare_order(account, frames, client.name, client.frames)
        account.doubled |= {f"{client.name}: {client.repeats} events again": [client.name]} if client.repeats else {}
        account.lost |= (
            {f"{client.name}: received notices {client.notices}": [client.name]} if client.notices.get("gap") else {}
        )
    return account


async def detections_events(reader: Reader) -> list[DetectionsMade]:
    """Return all committed detections events by partition and offset.

    A device that moved has its older events in the lower partition.
    """
    return [
        decode(record.headers, record.value, DetectionsMade)
        for partition, (first, end) in sorted((await reader.bounds(topics.DETECTIONS)).items())
        async for record in read_between(reader, TopicPartition(topics.DETECTIONS, partition), first, end)
    ]


async def _letters(reader: Reader) -> AsyncIterator[str]:
    for topic in (topics.FRAMES_DEAD, topics.SINKS_DEAD):
        async for letter in dead_letters(reader, topic):
            yield describe(topic, letter)


async def dead_letters(reader: Reader, topic: str) -> AsyncIterator[DeadLetter]:
    """Yield all dead letters of ``topic``."""
    for partition, (first, end) in (await reader.bounds(topic)).items():
        async for record in read_between(reader, TopicPartition(topic, partition), first, end):
            yield decode(record.headers, record.value, DeadLetter)


def describe(topic: str, letter: DeadLetter) -> str:
    """Return a dead letter as a line for people."""
    original = letter.original
    where = f"{original.topic}/{original.partition}@{original.offset}"
    return f"{topic}: {letter.group} {where}: {letter.reason} {letter.message[:300]}"


def compare(account: Account, frames: Frames, place: str, found: Sequence[UUID]) -> None:
    """Add the frames that are missing in ``found`` or repeated there, and those that were never accepted."""
    names, counts = frames.names(), Counter(found)
    for frame, name in names.items():
        if counts[frame] == 0:
            account.lost[name].append(place)
        elif counts[frame] > 1:
            account.doubled[name].append(f"{place} ({counts[frame]} times)")
    account.unexpected += [f"{place}: {frame}" for frame in counts if frame not in names]


def compare_order(account: Account, frames: Frames, place: str, found: Sequence[tuple[str, UUID]]) -> None:
    """Add the frames that come after a frame of the same device that was accepted later.

    ``found``: device and frame, in the order of ``place``; a frame counts where it is first.
    """
    names = frames.names()
    for device, accepted in frames.by_device.items():
        at = {frame: number for number, frame in enumerate(accepted)}
        newest = -1
        for frame in dict.fromkeys(each for owner, each in found if owner == device):
            number = at.get(frame, newest)
            if number < newest:
                account.out_of_order[names[frame]].append(place)
            newest = max(newest, number)


async def _compare_tables(site: Site, account: Account, frames: Frames, events: Sequence[DetectionsMade]) -> None:
    async with site.database.connected() as connection:
        images = [
            row["id"] for row in await connection.fetch("SELECT id FROM images WHERE processing_status = 'completed'")
        ]
        # A frame that failed, and was detected when it was sent again, has a session for each attempt.
        found = await connection.fetch("SELECT image_id FROM inference_sessions WHERE status = 'success'")
        sessions = [row["image_id"] for row in found]
        rows = await connection.fetch("SELECT image_id, id FROM detections")
    compare(account, frames, "table images", images)
    compare(account, frames, "table inference_sessions", sessions)
    names = frames.names()
    stored = Counter(row["id"] for row in rows)
    for event in events:
        missing = [each.id for each in event.detections if stored[each.id] == 0]
        if missing:
            account.lost[names.get(event.frame_id, str(event.frame_id))].append("table detections")
    wanted = {each.id for event in events for each in event.detections}
    extra = [row for row in rows if row["id"] not in wanted]
    account.unexpected += [f"table detections: {row['id']} of {row['image_id']}" for row in extra]

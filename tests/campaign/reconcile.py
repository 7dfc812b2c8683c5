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
    """What came of the frames. A frame is named with the places where it is missing, or is more than once."""

    accepted: int = 0
    lost: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    doubled: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    out_of_order: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    dead_letters: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)
    """What is there and was never accepted, with the place."""


@dataclass(frozen=True)
class Frames:
    """The accepted frames, and names for them that a person can look up."""

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
    """Compare what was accepted with what there is now, everywhere."""
    frames = Frames({device.device_id: device.accepted for device in devices})
    account = Account(accepted=len(frames.all))
    async with site.broker.opened() as broker:
        reader = await broker.reader()
        answers = await _answers(reader)
        account.dead_letters = [each async for each in _letters(reader)]
        await reader.close()
    compare(account, frames, "topic", [answer.frame_id for answer in answers])
    order(account, frames, "topic", [(answer.device_id, answer.frame_id) for answer in answers])
    await _compare_tables(site, account, frames, answers)
    for client in clients:
        # It drops what it gets twice, and counts it.
        compare(account, frames, client.name, [frame for _, frame in client.frames])
        order(account, frames, client.name, client.frames)
        account.doubled |= {f"{client.name}: {client.repeats} events again": [client.name]} if client.repeats else {}
        account.lost |= {f"{client.name}: told of {client.notices}": [client.name]} if client.notices.get("gap") else {}
    return account


async def _answers(reader: Reader) -> list[DetectionsMade]:
    """All committed answers by partition and offset; a device that moved has its older ones in the lower partition."""
    return [
        decode(record.headers, record.value, DetectionsMade)
        for partition, (first, end) in sorted((await reader.bounds(topics.DETECTIONS)).items())
        async for record in read_between(reader, TopicPartition(topics.DETECTIONS, partition), first, end)
    ]


async def _letters(reader: Reader) -> AsyncIterator[str]:
    for topic in (topics.FRAMES_DEAD, topics.SINKS_DEAD):
        for partition, (first, end) in (await reader.bounds(topic)).items():
            async for record in read_between(reader, TopicPartition(topic, partition), first, end):
                letter = decode(record.headers, record.value, DeadLetter)
                yield f"{topic}/{partition}@{record.offset}: {letter.reason} {letter.message[:300]}"


def compare(account: Account, frames: Frames, place: str, found: Sequence[UUID]) -> None:
    """Name the frames that are missing in ``found``, or there more than once, and what was never accepted."""
    names, counts = frames.names(), Counter(found)
    for frame, name in names.items():
        if counts[frame] == 0:
            account.lost[name].append(place)
        elif counts[frame] > 1:
            account.doubled[name].append(f"{place} ({counts[frame]} times)")
    account.strangers += [f"{place}: {frame}" for frame in counts if frame not in names]


def order(account: Account, frames: Frames, place: str, found: Sequence[tuple[str, UUID]]) -> None:
    """Name the frames in front of which there is one of the same device that was accepted later.

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


async def _compare_tables(site: Site, account: Account, frames: Frames, answers: Sequence[DetectionsMade]) -> None:
    async with site.database.connected() as connection:
        images = [row["id"] for row in await connection.fetch("SELECT id FROM images")]
        sessions = [row["image_id"] for row in await connection.fetch("SELECT image_id FROM inference_sessions")]
        rows = await connection.fetch("SELECT image_id, id FROM detections")
    compare(account, frames, "table images", images)
    compare(account, frames, "table inference_sessions", sessions)
    names = frames.names()
    stored = Counter(row["id"] for row in rows)
    for answer in answers:
        missing = [each.id for each in answer.detections if stored[each.id] == 0]
        if missing:
            account.lost[names.get(answer.frame_id, str(answer.frame_id))].append("table detections")
    wanted = {each.id for answer in answers for each in answer.detections}
    extra = [row for row in rows if row["id"] not in wanted]
    account.strangers += [f"table detections: {row['id']} of {row['image_id']}" for row in extra]

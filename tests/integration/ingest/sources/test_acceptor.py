"""Gives frames to a real acceptance: what their events say, and what a lost lease or a refusal does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from infra.broker.embedded.adapter import EmbeddedBroker
from infra.broker.port import TopicPartition
from infra.broker.reading import read_between
from infra.http_api.errors.api_errors import ApiError
from infra.storage.frames.folder import FolderFrameStore
from ingest.acceptance.acceptance import Acceptance
from ingest.acceptance.parts import AcceptanceParts
from ingest.settings import GatewaySettings
from ingest.sources.acceptor import SourceAcceptor
from ingest.sources.errors import AcceptanceBusyError, FrameRefusedError, LeaseLostError
from ingest.sources.lease import Lease
from ingest.video.port import VideoFrame
from schemas.cloudevents import decode
from schemas.events import FrameCaptured
from schemas.geometry import CameraGeometry
from schemas.topics import FRAMES_LIVE, load_topics
from tests.servers.gateway import Tokens
from tests.servers.mjpeg import picture

pytestmark = pytest.mark.integration

MOMENT = datetime(2026, 5, 1, 10, tzinfo=UTC)


def frame(image: bytes | None = None, moment: datetime = MOMENT) -> VideoFrame:
    camera = CameraGeometry(latitude=47.5, longitude=8.5, altitude_m=80.0)
    return VideoFrame(image or picture(1), 256, 256, 7, "gate", 1.25, moment, "rtcp", camera)


class FreezingStore(FolderFrameStore):
    """Stands for a process that is frozen while it stores: the lease is over when the image is stored."""

    lease: Lease | None = None

    async def put(self, data: bytes, *, sha256: str, media_type: str) -> str:
        uri = await super().put(data, sha256=sha256, media_type=media_type)
        if self.lease is not None:
            self.lease.end()
        return uri


@dataclass
class Room:
    """Refuses frames while it is closed."""

    closed: bool = False

    def require(self, topic: str, partition: int) -> None:
        if self.closed:
            raise ApiError(f"{topic}/{partition} is behind")


@dataclass
class Place:
    broker: EmbeddedBroker
    store: FreezingStore
    acceptor: SourceAcceptor
    lease: Lease
    room: Room = field(default_factory=Room)

    async def events(self) -> list[FrameCaptured]:
        reader = await self.broker.reader()
        found = [
            decode(record.headers, record.value, FrameCaptured)
            for partition, (first, end) in (await reader.bounds(FRAMES_LIVE)).items()
            async for record in read_between(reader, TopicPartition(FRAMES_LIVE, partition), first, end)
        ]
        await reader.close()
        return found


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    topics = load_topics()
    broker = EmbeddedBroker(tmp_path / "broker.sqlite", topics)
    publisher = await broker.publisher()
    store, room = FreezingStore(tmp_path / "frames"), Room()
    parts = AcceptanceParts(
        GatewaySettings(),
        Tokens(),
        store,
        publisher,
        frame_partitions=topics[FRAMES_LIVE].partitions,
        lag=room,
    )
    lease = Lease("gate", 1)
    lease.extend(asyncio.get_running_loop().time() + 1e6, 60.0)
    yield Place(broker, store, SourceAcceptor(Acceptance(parts), "cam-1", lease), lease, room)
    await publisher.close()
    await broker.close()


async def test_an_event_has_device_times_position_and_camera(place: Place) -> None:
    """C-S3-047: the place in the video is the presentation time."""
    await place.acceptor.accept(frame())
    (event,) = await place.events()
    assert (event.device_id, event.captured_at) == ("cam-1", MOMENT)
    assert event.video is not None
    assert (event.video.source, event.video.presentation_time_s, event.video.clock) == ("gate", 1.25, "rtcp")
    assert event.camera == CameraGeometry(latitude=47.5, longitude=8.5, altitude_m=80.0)
    assert (event.image.width, event.image.height, event.image.media_type) == (256, 256, "image/jpeg")


async def test_nothing_is_published_after_the_lease(place: Place) -> None:
    place.lease.end()
    with pytest.raises(LeaseLostError):
        await place.acceptor.accept(frame())
    assert await place.events() == []


async def test_a_lease_that_ends_while_an_image_is_stored_stops_its_event(place: Place) -> None:
    place.store.lease = place.lease
    with pytest.raises(LeaseLostError):
        await place.acceptor.accept(frame())
    assert await place.events() == []


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        (frame(b"no picture"), "not an image|format"),
        (frame(moment=datetime(2200, 1, 1, tzinfo=UTC)), "in the future"),
    ],
    ids=["no picture", "future"],
)
async def test_frames_that_are_never_accepted_are_refused_for_good(
    place: Place, refused: VideoFrame, reason: str
) -> None:
    # The clock of the gateway is compared at the first publish.
    await place.acceptor.accept(frame())
    with pytest.raises(FrameRefusedError, match=reason):
        await place.acceptor.accept(refused)


async def test_frames_wait_while_the_detectors_are_behind(place: Place) -> None:
    place.room.closed = True
    with pytest.raises(AcceptanceBusyError, match="is behind"):
        await place.acceptor.accept(frame())
    place.room.closed = False
    await place.acceptor.accept(frame())
    assert len(await place.events()) == 1

"""`edge --flight … --until …`: the client ends when all was sent, and closes the flight with its number of frames."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from infra.deploy.ports import free_port
from ingest.flights.flight import Flight
from schemas.cloudevents import decode
from schemas.events import FrameCaptured
from schemas.topics import FRAMES_BACKFILL
from tests.harnesses.edge_process import EdgeProcess
from tests.servers.gateway import Gateway, running

pytestmark = pytest.mark.integration


@dataclass
class CountedFlights:
    """Keeps with which counts flights were closed, as a database would; the others of its methods are not used."""

    closed: dict[str, int] = field(default_factory=dict)

    async def announce(self, device_id: str, flight_id: str, count: int) -> Flight:
        raise NotImplementedError

    async def close(self, device_id: str, flight_id: str, count: int) -> Flight:
        now = datetime.now(UTC)
        assert self.closed.setdefault(flight_id, count) == count
        return Flight(flight_id, now, closed_at=now, count=count, arrived=count)

    async def get(self, device_id: str, flight_id: str) -> Flight | None:
        raise NotImplementedError

    async def newest(self, device_id: str, limit: int, before: str | None) -> list[Flight]:
        raise NotImplementedError


@pytest.fixture
def flights() -> CountedFlights:
    return CountedFlights()


@pytest.fixture
async def gateway(tmp_path: Path, flights: CountedFlights) -> AsyncIterator[Gateway]:
    async with running(tmp_path / "gateway", flights=flights) as started:
        yield started


@pytest.fixture
def edge(tmp_path: Path, gateway: Gateway) -> Iterator[EdgeProcess]:
    client = EdgeProcess(tmp_path / "camera", tmp_path / "spool", gateway.url)
    yield client
    client.kill()


async def ends(edge: EdgeProcess, *options: str) -> int:
    """Start the client and return its exit status when it has ended by itself."""
    edge.start(*options)
    assert edge.process is not None
    return await asyncio.to_thread(edge.process.wait, 30)


async def test_flight_is_closed_with_the_frames_of_all_its_cards(
    edge: EdgeProcess, gateway: Gateway, flights: CountedFlights
) -> None:
    """The pictures of one flight come on two memory cards, and one of them was sent before without a flight."""
    edge.write(1)
    assert await ends(edge, "--until", "sent") == 0
    for number in (2, 3):
        edge.write(number)
    assert await ends(edge, "--flight", "north", "--until", "sent") == 0
    assert flights.closed == {}
    for number in (4, 5, 6):
        edge.write(number)
    assert await ends(edge, "--flight", "north", "--until", "closed") == 0
    assert flights.closed == {"north": 5}
    assert "the flight north is closed with 5 frames: 5 of 5 arrived" in edge.logged()
    found = [decode(one.headers, one.value, FrameCaptured) for one in await gateway.records(FRAMES_BACKFILL)]
    assert [frame.flight_id for frame in found] == [None, *["north"] * 5]


async def test_flight_is_not_closed_while_a_picture_is_left(edge: EdgeProcess, flights: CountedFlights) -> None:
    edge.write(1)
    (edge.folder / "empty.jpg").touch()
    assert await ends(edge, "--flight", "north", "--until", "closed") == 1
    assert flights.closed == {}
    assert "not everything was sent: 1 file not taken: empty.jpg: it is empty" in edge.logged()
    assert "the flight north is not closed" in edge.logged()
    (edge.folder / "empty.jpg").unlink()
    assert await ends(edge, "--flight", "north", "--until", "closed") == 0
    assert flights.closed == {"north": 1}


async def test_flight_without_a_frame_is_not_closed(edge: EdgeProcess, flights: CountedFlights) -> None:
    assert await ends(edge, "--flight", "north", "--until", "closed") == 1
    assert flights.closed == {}
    assert "no frame was taken for it" in edge.logged()


async def test_stop_before_all_is_sent_leaves_the_flight_open(edge: EdgeProcess, flights: CountedFlights) -> None:
    edge.url = f"http://127.0.0.1:{free_port()}"
    edge.write(1)
    edge.start("--flight", "north", "--until", "closed")
    await edge.wait_until(lambda found: found.frames == 1 and found.state.link_problem is not None)
    assert edge.stop() == 1
    assert flights.closed == {}
    assert "the client ended before everything was sent" in edge.logged()

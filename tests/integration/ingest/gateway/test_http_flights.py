"""I14: a device announces a flight, sends its frames, closes it, and asks at any moment what became of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from infra.broker.port import OutRecord
from infra.consuming.consumer_loop import SinkRunner
from infra.consuming.port import Sink
from infra.consuming.settings import BatchSettings
from infra.database.pool import Database
from infra.database.settings import DatabaseSettings
from infra.errors import ImageCorruptError, RefusedError
from infra.failure.dead_letter_records import dead_letter
from infra.failure.settings import RetrySettings
from infra.process.health import Health
from ingest.flights.postgres import PostgresFlights
from ingest.gateway.openapi.bodies import FlightFailure, FlightList, FlightState
from ingest.settings import GatewaySettings
from schemas.cloudevents import decode
from schemas.events import FrameCaptured
from schemas.topics import FRAMES_DEAD
from sinks.postgres.failed_frames import FailedFrames
from sinks.postgres.flights import ArrivedFrames
from sinks.postgres.sink import PostgresSink
from standgale.testing.factories import detections_made, out_record
from tests.servers.gateway import FRAME, OTHER_TOKEN, TOKEN, Gateway, GatewayResponse, jpeg, running
from tests.servers.gateway_checks import assert_documented, assert_error

pytestmark = pytest.mark.integration

FLIGHTS = "/api/v1/flights"
NORTH = "2026-05-01-north"


@pytest.fixture
async def gateway(tmp_path: Path, database: Database) -> AsyncIterator[Gateway]:
    async with database.acquire() as connection:
        await connection.execute("INSERT INTO devices (device_id) VALUES ('drone-1'), ('drone-2')")
    flights = PostgresFlights(database, max_open=3)
    async with running(tmp_path, GatewaySettings(flights_timeout_s=1.0), flights=flights) as started:
        yield started


async def announce(gateway: Gateway, count: object = 3, flight: object = NORTH, token: str = TOKEN) -> GatewayResponse:
    body = json.dumps({"flight": flight, "announced": count}).encode()
    return await gateway.send(body, path=FLIGHTS, params={}, token=token)


async def close(gateway: Gateway, count: object = 3, flight: str = NORTH, token: str = TOKEN) -> GatewayResponse:
    body = json.dumps({"count": count}).encode()
    return await gateway.send(body, path=f"{FLIGHTS}/{flight}/close", params={}, token=token)


async def ask(gateway: Gateway, path: str = f"/{NORTH}", token: str = TOKEN, **params: str) -> GatewayResponse:
    return await gateway.send(None, path=FLIGHTS + path, method="GET", params=params, token=token)


async def send(gateway: Gateway, number: int, flight: str = NORTH) -> None:
    params = {"captured_at": f"2026-05-01T12:00:{number:02}Z", "flight": flight}
    assert (await gateway.send(jpeg(seed=number), params=params)).status == 202


async def sent_frames(gateway: Gateway) -> list[tuple[FrameCaptured, Any]]:
    return [(decode(record.headers, record.value, FrameCaptured), record) for record in await gateway.records()]


async def publish_detections(gateway: Gateway, frame: FrameCaptured) -> None:
    same = {"frame_id", "device_id", "captured_at", "received_at", "image", "flight_id"}
    made = detections_made(0, **frame.model_dump(include=same))
    await gateway.publisher.publish([out_record(made)])


def letter_of(record: Any) -> OutRecord:
    error = ImageCorruptError("the object at file:///secret/frames/ab/x.jpg has 12 of 3000 rows")
    return dead_letter(record, group="detector", error=error, attempts=1, topic=FRAMES_DEAD)


async def until(gateway: Gateway, **expected: object) -> dict[str, Any]:
    for _ in range(200):
        state: dict[str, Any] = (await ask(gateway)).json
        if {name: state.get(name) for name in expected} == expected:
            return state
        await asyncio.sleep(0.05)
    raise AssertionError(f"{expected} was not reached: {state}")


@pytest.fixture
async def sinks(gateway: Gateway, database: Database) -> AsyncIterator[None]:
    """All that reads topics into the database, as `standgale sink postgres` runs it."""
    stop, health = asyncio.Event(), Health()
    made: tuple[Sink[Any], ...] = (PostgresSink(database), ArrivedFrames(database), FailedFrames(database))
    runners = [SinkRunner(one, gateway.broker, batches=BatchSettings(), retry=RetrySettings()) for one in made]
    tasks = [asyncio.create_task(runner.run(stop, health.part(runner.name))) for runner in runners]
    yield
    stop.set()
    await asyncio.gather(*tasks)


@pytest.mark.usefixtures("sinks")
async def test_frames_of_a_flight_are_counted_to_the_end(gateway: Gateway) -> None:
    assert (await announce(gateway)).json["summary"] == "0 of 3 arrived, 0 detected, 0 failed"
    for number in (1, 2, 3, 1, 2):
        await send(gateway, number)
    state = await until(gateway, arrived=3, waiting=3)
    assert (state["missing"], state["status"], state["problems"]) == (0, "open", [])
    frames = await sent_frames(gateway)
    by_time = sorted(frames, key=lambda pair: pair[0].captured_at)
    await publish_detections(gateway, by_time[0][0])
    await publish_detections(gateway, by_time[0][0])
    failed, record = by_time[-1]
    await gateway.publisher.publish([letter_of(record), letter_of(record)])
    state = await until(gateway, detected=1, failed=1, waiting=1)
    assert_documented(state, FlightState)
    assert_documented(state["failures"][0], FlightFailure)
    assert_documented((await ask(gateway, "")).json, FlightList)
    assert state["summary"] == "3 of 3 arrived, 1 detected, 1 waiting, 1 failed: 1 IMAGE_CORRUPT"
    assert state["failures"] == [
        {
            "reason": "IMAGE_CORRUPT",
            "count": 1,
            "message": "no detector could process the frame: the object at the stored image has 12 of 3000 rows",
            "frames": [str(failed.frame_id)],
        }
    ]
    assert (await close(gateway)).json["complete"] is False
    # The dead letter was re-driven, and a detector has found something.
    for frame in (failed, by_time[2][0]):
        await publish_detections(gateway, frame)
    state = await until(gateway, complete=True)
    assert (state["summary"], state["failures"]) == ("3 of 3 arrived, 3 detected, 0 failed", [])
    assert state["status"] == "closed"


@pytest.mark.usefixtures("sinks")
async def test_a_count_that_differs_is_in_problems(gateway: Gateway) -> None:
    await announce(gateway, 2)
    for number in range(3):
        await send(gateway, number)
    state = await until(gateway, arrived=3)
    assert state["problems"] == ["1 more frame arrived than the 2 counted"]
    state = (await close(gateway, 5)).json
    assert state["problems"] == [
        "announced with 2 frames, closed with 5",
        "closed with 5 frames, but 2 did not arrive yet",
    ]
    assert (state["missing"], state["complete"]) == (2, False)


async def test_announcing_and_closing_again_changes_nothing(gateway: Gateway) -> None:
    first = await announce(gateway)
    assert (await announce(gateway)).json == first.json
    assert (await announce(gateway, 4)).json["announced"] == 4
    closed = await close(gateway, 4)
    assert (await close(gateway, 4)).json == closed.json
    assert (await announce(gateway, 4)).json == closed.json
    assert "closed with 4 frames" in assert_error(await close(gateway, 3), 409, "FLIGHT_CLOSED", "count")["message"]
    assert_error(await announce(gateway, 3), 409, "FLIGHT_CLOSED", "count")
    assert (await ask(gateway)).json == closed.json
    both = await asyncio.gather(close(gateway, 1, "race"), close(gateway, 2, "race"))
    assert sorted(response.status for response in both) == [200, 409]


async def test_a_device_sees_its_own_flights_only(gateway: Gateway) -> None:
    await announce(gateway, 1)
    assert_error(await ask(gateway, token=OTHER_TOKEN), 404, "FLIGHT_NOT_FOUND", "flight")
    assert (await ask(gateway, "", token=OTHER_TOKEN)).json == {"flights": [], "next_before": None}
    assert (await announce(gateway, 9, token=OTHER_TOKEN)).json["announced"] == 9
    assert (await ask(gateway)).json["announced"] == 1
    assert (await ask(gateway, token="wrong")).status == (await announce(gateway, token="wrong")).status == 401


async def test_flights_are_listed_the_newest_first(gateway: Gateway) -> None:
    for name in ("a", "b", "c"):
        await announce(gateway, 1, name)
    page = (await ask(gateway, "", limit="2")).json
    assert [flight["flight"] for flight in page["flights"]] == ["c", "b"]
    rest = (await ask(gateway, "", limit="2", before=page["next_before"])).json
    assert ([flight["flight"] for flight in rest["flights"]], rest["next_before"]) == (["a"], None)
    refused = assert_error(await announce(gateway, 1, "d"), 409, "TOO_MANY_FLIGHTS")
    assert "max_open_flights" in refused["message"]
    await close(gateway, 1, "a")
    assert (await announce(gateway, 1, "d")).status == 200


async def test_flights_that_frames_opened_leave_room_for_announced_ones(gateway: Gateway, database: Database) -> None:
    async with database.acquire() as connection:
        await connection.execute(
            "INSERT INTO flights (device_id, flight_id) "
            "SELECT id, 'frames-' || number FROM devices, generate_series(1, 9) number WHERE device_id = 'drone-1'"
        )
    assert [(await announce(gateway, 1, name)).status for name in ("a", "b", "frames-1")] == [200, 200, 200]
    for name in ("c", "frames-2"):
        assert_error(await announce(gateway, 1, name), 409, "TOO_MANY_FLIGHTS")
    assert_error(await ask(gateway, "/c"), 404, "FLIGHT_NOT_FOUND", "flight")
    assert (await ask(gateway, "/frames-2")).json["announced"] is None
    assert [(await close(gateway, 1, name)).status for name in ("c", "frames-2")] == [200, 200]


async def test_slow_bodies_of_one_device_keep_no_other_one_out(gateway: Gateway) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    requests = [asyncio.create_task(gateway.send(slow(), path=FLIGHTS, params={})) for _ in range(40)]
    refused, _ = await asyncio.wait(requests, timeout=10, return_when=asyncio.FIRST_COMPLETED)
    assert {each.result().json["error_code"] for each in refused} == {"OVERLOADED"}
    assert [(await announce(gateway, token=OTHER_TOKEN)).status for _ in range(3)] == [200] * 3
    for each in requests:
        each.cancel()
    await asyncio.gather(*requests, return_exceptions=True)


async def test_wrong_requests_are_refused(gateway: Gateway) -> None:
    for count in (-1, 1.5, True, "3", None, 10**9):
        assert_error(await announce(gateway, count), 400, "VALIDATION_ERROR", "announced")
    for flight in ("../x", "", "a" * 129):
        assert_error(await announce(gateway, 1, flight), 400, "VALIDATION_ERROR", "flight")
    assert_error(await announce(gateway, 1, 7), 400, "VALIDATION_ERROR", "flight")
    for body in (b"", b"[]", b"{}", b'{"count": 1, "more": 2}', b"{" * 4_000):
        response = await gateway.send(body, path=f"{FLIGHTS}/{NORTH}/close", params={})
        assert (response.status, response.json["error_code"]) == (400, "VALIDATION_ERROR"), body[:20]
    assert_error(await gateway.send(bytes(5_000), path=FLIGHTS, params={}), 400, "FILE_TOO_LARGE")
    for params in ({"limit": "0"}, {"limit": "101"}, {"limit": "٣"}, {"before": "../x"}, {"after": "x"}):
        assert (await ask(gateway, "", **params)).status == 400, params
    assert (await ask(gateway, "/a%2Fb")).status == 404
    assert (await ask(gateway, "/%00")).status == 400
    assert (await ask(gateway, "", before="never")).json["flights"] == []


async def test_a_database_that_refuses_a_flight_gets_an_error_without_frames(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise RefusedError("permission denied for table flights")

    monkeypatch.setattr(PostgresFlights, "get", refuse)
    refused = assert_error(await ask(gateway, "/north"), 503, "REFUSED")
    assert "frame" not in f"{refused['message']} {refused['details']}"
    assert "permission" not in str(refused)


@pytest.mark.parametrize("silent", [False, True])
async def test_frames_need_no_database(tmp_path: Path, silent: bool) -> None:
    """It refuses connections, or takes them and never says a word, as a frozen one does."""

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1] if silent else 1
    url = SecretStr(f"postgresql://x@127.0.0.1:{port}/none")
    nowhere = Database.open(DatabaseSettings(url=url, command_timeout_s=2.0), tmp_path)
    settings = GatewaySettings(flights_timeout_s=0.5)
    async with running(tmp_path, settings, flights=PostgresFlights(nowhere, max_open=3)) as gateway:
        for response in (await announce(gateway), await ask(gateway), await close(gateway)):
            assert (response.status, response.json["error_code"]) == (503, "DATABASE_UNAVAILABLE")
            assert "Retry-After" in response.headers
        flood = await asyncio.gather(*(ask(gateway) for _ in range(60)))
        assert {response.json["error_code"] for response in flood} <= {"DATABASE_UNAVAILABLE", "OVERLOADED"}
        params = {"captured_at": "2026-05-01T12:00:00Z", "flight": NORTH}
        assert (await gateway.send(FRAME, params=params)).status == 202
    await nowhere.close()
    server.close()

"""The MQTT sink on a real broker through faults: kills, a frozen broker, logins, rights, a second process."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import pytest

from infra.errors import RefusedError, TransientError
from infra.process.health import Health
from schemas.events import DetectionsMade
from schemas.topics import DETECTIONS
from sinks.mqtt.connection import connect
from sinks.mqtt.errors import MqttUnavailableError, PublishRefusedError
from sinks.mqtt.settings import MqttSettings
from sinks.mqtt.sink import MqttSink
from standgale.testing.factories import detections_made
from standgale.testing.sink_site import SinkSite
from standgale.testing.waiting import until
from tests.faults.forked import ForkedProcess
from tests.servers.mosquitto import Mosquitto, Received, attributes, require_mosquitto, subscribed

pytestmark = pytest.mark.integration

ALL = "standgale/#"
FOUND = "standgale/detections/"
STATUS = "standgale/status/standgale"


@pytest.fixture
def mosquitto(server_dir: Path) -> Iterator[Mosquitto]:
    require_mosquitto()
    server = Mosquitto(server_dir)
    with server:
        yield server


def events_of(first: int, count: int, devices: int = 4) -> list[DetectionsMade]:
    return [detections_made(number, device=f"drone-{number % devices}") for number in range(first, first + count)]


def settings_for(server: Mosquitto, **more: object) -> MqttSettings:
    return MqttSettings.model_validate({"url": server.url, "timeout_s": 2.0, **more})


def assert_complete(received: Received, events: list[DetectionsMade]) -> None:
    """Each event is there at least once, and without repeated ids a device's are in order."""
    ids = defaultdict(list)
    for body in received.first_of_each(FOUND):
        ids[body["device_id"]].append(body["id"])
    wanted = defaultdict(list)
    for event in events:
        wanted[event.device_id].append(str(event.id))
    assert ids == wanted


async def all_received(received: Received, events: list[DetectionsMade]) -> None:
    wanted = {str(event.id) for event in events}
    await until(lambda: {body["id"] for body in received.bodies(FOUND)} >= wanted, "not every event arrived")


async def test_status_is_kept_by_the_broker_and_messages_are_cloudevents(mosquitto: Mosquitto) -> None:
    sink, event = MqttSink(settings_for(mosquitto, retain=True)), detections_made(1, device="cam")
    await sink.open()
    await sink.write([detections_made(2, device="cam", job_id=UUID(int=1)), event])
    async with subscribed(mosquitto.port, ALL) as received:
        await until(lambda: len(received.messages) == 2, "what is kept did not come")
        assert received.texts(STATUS) == ["online"]
        (kept,) = [one for one in received.messages if str(one.topic) == "standgale/detections/cam"]
        assert kept.retain
        assert attributes(kept)["id"] == str(event.id)
        assert getattr(kept.properties, "ContentType", None) == "application/json"
        await sink.close()
        await until(lambda: received.texts(STATUS) == ["online", "offline"], "no word that it is offline")


async def test_killed_processes_deliver_each_event_and_the_broker_sends_their_will(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    site, events = SinkSite(tmp_path / "data"), events_of(0, 500)
    environment = {
        **os.environ,
        "STANDGALE_DATA_DIR": str(tmp_path / "data"),
        "STANDGALE_TELEMETRY__HEALTH_PORT": "0",
        "STANDGALE_MQTT__URL": mosquitto.url,
        "STANDGALE_MQTT__IN_FLIGHT": "5",
        "STANDGALE_SINKS__BATCH_RECORDS": "50",
    }

    def start() -> ForkedProcess:
        return ForkedProcess(("sink", "mqtt", "--instance-id", "a"), environment, tmp_path / "sink.log")

    async with subscribed(mosquitto.port, ALL) as received:
        await site.publish(DETECTIONS, events[:300])
        for kill in range(2):
            process = start()
            before = len(received.bodies(FOUND))
            await until(lambda so_far=before: len(received.bodies(FOUND)) > so_far, "the sink sends nothing")  # type: ignore[misc]
            process.kill()
            await asyncio.to_thread(process.wait)
            await site.publish(DETECTIONS, events[300 + 100 * kill : 400 + 100 * kill])
        await until(lambda: received.texts(f"{STATUS}-a")[-1:] == ["offline"], "the will did not come")
        process = start()
        await all_received(received, events)
        process.terminate()
        assert await asyncio.to_thread(process.wait) == 0
        assert_complete(received, events)
    assert await site.dead_letters() == []
    await site.close()


async def test_frozen_and_killed_broker_holds_the_sink_and_loses_nothing(mosquitto: Mosquitto, tmp_path: Path) -> None:
    site, events = SinkSite(tmp_path / "data"), events_of(0, 90)
    sink = MqttSink(settings_for(mosquitto, timeout_s=0.5))
    async with subscribed(mosquitto.port, ALL) as received, site.running(sink):
        await site.publish(DETECTIONS, events[:30])
        await all_received(received, events[:30])
        mosquitto.send(signal.SIGSTOP)
        await site.publish(DETECTIONS, events[30:60])
        await until(lambda: not site.is_ready, "the sink does not say that it waits")
        mosquitto.send(signal.SIGCONT)
        await all_received(received, events[:60])
        await until(lambda: site.is_ready, "the sink is not ready again")
        assert_complete(received, events[:60])
        # What a killed broker knows of its subscribers is its own affair; the sink waits, and goes on.
        mosquitto.stop(signal.SIGKILL)
        await site.publish(DETECTIONS, events[60:])
        await until(lambda: not site.is_ready, "the sink does not say that it waits")
        mosquitto.start()
        await until(lambda: _is_done(site, sink), "the sink does not go on")
    assert await site.dead_letters() == []
    await site.close()


async def test_login_that_changes_is_taken_from_its_file_without_a_restart(server_dir: Path, tmp_path: Path) -> None:
    require_mosquitto("mosquitto_passwd")
    logins, secret = server_dir / "passwd", tmp_path / "password"
    lines = ("allow_anonymous false", f"password_file {logins}")

    def set_password(text: str) -> None:
        program = shutil.which("mosquitto_passwd")
        assert program is not None
        subprocess.run([program, "-b", "-c", str(logins), "bridge", text], check=True, capture_output=True)

    set_password("first")
    secret.write_text("first\n")
    with Mosquitto(server_dir, lines) as server:
        sink = MqttSink(settings_for(server, username="bridge"), password_file=secret)
        await sink.open()
        set_password("second")
        server.stop()
        server.start()
        with pytest.raises((RefusedError, MqttUnavailableError)):
            await sink.write(events_of(0, 1))
        with pytest.raises(RefusedError, match=r"Not authorized.*mqtt.username and mqtt.password \(STANDGALE_MQTT__"):
            await sink.write(events_of(0, 1))
        secret.write_text("second\n")
        await sink.write(events_of(0, 1))
        await sink.close()


async def test_topic_that_may_not_be_written_makes_dead_letters_of_its_device_alone(
    server_dir: Path, tmp_path: Path
) -> None:
    require_mosquitto()
    rights = server_dir / "acl"
    rights.write_text("topic readwrite standgale/#\ntopic deny standgale/detections/drone-1\n")
    site, events = SinkSite(tmp_path / "data"), events_of(0, 12)
    with Mosquitto(server_dir, ("allow_anonymous true", f"acl_file {rights}")) as server:
        sink = MqttSink(settings_for(server))
        await sink.open()
        with pytest.raises(PublishRefusedError, match=r"'standgale/detections/drone-1' \(Not authorized\): let the"):
            await sink.write(events[:4])
        await sink.close()
        async with subscribed(server.port, ALL) as received, site.running(MqttSink(settings_for(server))):
            await site.publish(DETECTIONS, events)
            await all_received(received, [event for event in events if event.device_id != "drone-1"])
            await until(lambda: _dead_of(site, 3), "the events of the device did not become dead letters")
    letters = await site.dead_letters()
    assert {(letter.device_id, letter.reason) for letter in letters} == {("drone-1", "MQTT_PUBLISH_REFUSED")}
    await site.close()


async def _is_done(site: SinkSite, sink: MqttSink) -> bool:
    return await site.lag(sink) == 0


async def _dead_of(site: SinkSite, count: int) -> bool:
    return len(await site.dead_letters()) == count


async def test_second_process_of_the_same_client_id_is_explained(mosquitto: Mosquitto) -> None:
    first = await connect(settings_for(mosquitto), "standgale", None, None)
    second = await connect(settings_for(mosquitto), "standgale", None, None)
    await until(lambda: not first.is_open, "the broker did not end the connection of the first process")
    # This broker gives no reason; one that does is in the unit tests.
    assert "another process may have connected as client id 'standgale'" in str(first.end_error())
    await first.close()
    await second.close()


async def test_broker_that_is_not_there_is_unavailable_and_close_passes(mosquitto: Mosquitto) -> None:
    mosquitto.stop()
    sink = MqttSink(settings_for(mosquitto))
    with pytest.raises(MqttUnavailableError, match="is not reachable"):
        await sink.open()
    await sink.close()


async def test_two_sinks_of_one_client_id_are_not_ready_and_name_it(mosquitto: Mosquitto) -> None:
    parts = [Health().part(f"sink.mqtt-{number}") for number in range(2)]
    sinks = [MqttSink(settings_for(mosquitto), health=part) for part in parts]
    for part in parts:
        part.set_ready()
    written = 0
    while not all(part.reason and "client id 'standgale'" in part.reason for part in parts):
        assert written < 40, [part.reason for part in parts]
        for sink in sinks:
            # The broker may end the connection just now, and says why; the loop then writes again.
            with suppress(TransientError):
                await sink.write([detections_made(written)])
            written += 1
            await asyncio.sleep(0.05)
    for sink in sinks:
        await sink.close()

"""An idle sink says once that the broker does not take it: health says it only when an event waits."""

from __future__ import annotations

import asyncio
import logging

import pytest

pytest.importorskip("aiomqtt")

from infra.errors import RefusedError
from infra.process.health import Health
from schemas.errors import StandgaleError
from sinks.mqtt.errors import MqttUnavailableError
from sinks.mqtt.settings import MqttSettings
from sinks.mqtt.sink import MqttSink
from standgale.testing.waiting import until


class _Open:
    """A connection that has not ended, until ``ends`` is given."""

    was_refused = False
    may_be_replaced = False
    is_open = True

    async def close(self) -> None:
        """Do nothing."""


class _Refused(_Open):
    was_refused = True
    is_open = False

    def end_error(self) -> StandgaleError:
        return RefusedError("another process took this one's place")


async def test_an_idle_sink_whose_place_was_taken_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    class Replaced(_Refused):
        may_be_replaced = True

    async def connect(*_: object) -> object:
        return Replaced()

    monkeypatch.setattr("sinks.mqtt.connection.connect", connect)
    monkeypatch.setattr("sinks.mqtt.sink._LOOK_S", 0.005)
    part = Health().part("sink.mqtt-idle")
    part.set_ready()
    sink = MqttSink(MqttSettings(url="mqtt://127.0.0.1:1"), health=part)
    await sink.open()
    await until(lambda: part.reason is not None, "the part is ready")
    assert "another process took this one's place" in str(part.reason)
    await sink.close()


@pytest.mark.parametrize("kind", ["login", "place"])
async def test_a_refusal_is_a_warning_once_until_it_is_another_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    tries: list[StandgaleError] = []
    error: StandgaleError = RefusedError("correct mqtt.password")

    async def connect(*_: object) -> object:
        if not tries:
            tries.append(error)
            return _Refused() if kind == "place" else _closed()
        tries.append(error)
        raise error

    def _closed() -> _Open:
        connection = _Open()
        connection.is_open = False
        return connection

    monkeypatch.setattr("sinks.mqtt.connection.connect", connect)
    monkeypatch.setattr("sinks.mqtt.sink._LOOK_S", 0.005)
    caplog.set_level(logging.DEBUG, "sinks.mqtt.sink")
    sink = MqttSink(MqttSettings(url="mqtt://127.0.0.1:1"))
    await sink.open()
    await until(lambda: len(caplog.records) >= 5, "nothing is said")
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    reason = "another process took" if kind == "place" else "correct mqtt.password"
    assert len(warnings) == 1
    assert reason in warnings[0]
    if kind == "login":
        error = MqttUnavailableError("not reachable")
        await until(lambda: caplog.records[-1].getMessage().endswith("not reachable"), "the other error is not said")
        error = RefusedError("correct mqtt.username")
        await until(lambda: "username" in caplog.records[-1].getMessage(), "the other refusal is not said")
        said = [record.levelno for record in caplog.records if "username" in record.getMessage()]
        assert said[0] == logging.WARNING
        assert not [record for record in caplog.records if "reachable" in record.getMessage() and record.levelno > 10]
    await sink.close()
    await asyncio.sleep(0)

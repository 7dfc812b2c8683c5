"""The doctor's look at the MQTT broker: none is set, or it does not respond; it publishes nothing."""

from __future__ import annotations

import pytest

from infra.deploy.ports import free_port
from sinks.mqtt.errors import MqttUnavailableError
from sinks.mqtt.settings import MqttSettings
from standgale.doctor.mqtt import MqttCheck


async def test_without_a_broker_there_is_nothing_to_check() -> None:
    (found,) = await MqttCheck(MqttSettings()).look()
    assert (found.level, found.what) == ("ok", "no broker is set (mqtt.url)")


async def test_broker_that_does_not_respond_is_named() -> None:
    port = free_port()
    with pytest.raises(MqttUnavailableError, match=f"mqtt://127.0.0.1:{port} is not reachable"):
        await MqttCheck(MqttSettings(url=f"mqtt://127.0.0.1:{port}", timeout_s=1.0)).look()

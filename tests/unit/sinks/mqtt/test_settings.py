"""The settings of the MQTT sink: addresses, topics and logins that can be used, and words for those that cannot."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from infra.errors import SettingsError
from sinks.mqtt.settings import MqttSettings
from sinks.mqtt.tls import load_tls


@pytest.mark.parametrize(
    ("url", "host", "port", "has_tls"),
    [
        ("mqtt://broker", "broker", 1883, False),
        ("mqtts://broker/", "broker", 8883, True),
        ("mqtt://[::1]:2000", "::1", 2000, False),
    ],
)
def test_url_gives_host_port_and_whether_there_is_tls(url: str, host: str, port: int, has_tls: bool) -> None:
    settings = MqttSettings(url=url)
    assert (settings.host, settings.port, settings.has_tls) == (host, port, has_tls)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"url": "http://broker"}, "begins with mqtt:// or mqtts://"),
        ({"url": "mqtt://me:secret@broker"}, "give mqtt.username and mqtt.password"),
        ({"url": "mqtt://broker/topic"}, "more than host and port"),
        ({"url": "mqtt://broker:99999"}, "no address of a server"),
        ({"topic": "detections"}, r"must have \{device\} once"),
        ({"topic": "a/+/{device}"}, "not allowed in the topic"),
        ({"topic": "$SYS/{device}"}, "belong to the broker"),
        ({"status_topic": "a/#"}, "not allowed in the topic"),
        ({"client_id": "a b"}, "match pattern"),
        ({"password": "x"}, "missing while mqtt.password is given"),
        ({"key_file": "key.pem"}, "give both, or neither"),
        ({"in_flight": 65_536}, "less than or equal to 65535"),
    ],
)
def test_settings_that_cannot_work_are_refused_with_a_reason(wrong: dict[str, object], text: str) -> None:
    with pytest.raises(ValidationError, match=text) as caught:
        MqttSettings.model_validate(wrong)
    assert "secret" not in str(caught.value)


def test_certificate_files_that_cannot_be_used_are_named_with_their_setting(tmp_path: Path) -> None:
    assert load_tls(MqttSettings(url="mqtt://broker", ca_file=tmp_path / "no.pem")) is None
    with pytest.raises(SettingsError, match=r"mqtt.ca_file \(STANDGALE_MQTT__CA_FILE\) is .*no.pem, which cannot be"):
        load_tls(MqttSettings(url="mqtts://broker", ca_file=tmp_path / "no.pem"))
    with pytest.raises(SettingsError, match=r"mqtt.certificate_file and mqtt.key_file"):
        load_tls(MqttSettings(url="mqtts://broker", certificate_file=tmp_path / "a", key_file=tmp_path / "b"))

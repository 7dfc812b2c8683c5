"""The MQTT sink by TLS: with the certificate of the broker's authority, and with another one."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from infra.errors import RefusedError
from sinks.mqtt.settings import MqttSettings
from sinks.mqtt.sink import MqttSink
from sinks.mqtt.tls import load_tls
from standgale.doctor.mqtt import MqttCheck
from standgale.testing.factories import detections_made
from tests.servers.mosquitto import Mosquitto, require_mosquitto

pytestmark = pytest.mark.integration


def self_signed(folder: Path, name: str) -> Path:
    """Make a certificate for 127.0.0.1 and its key, and return the path of the certificate."""
    certificate = folder / f"{name}.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"),
            *("-keyout", str(folder / f"{name}.key"), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return certificate


async def test_broker_is_trusted_by_its_certificate_only(server_dir: Path) -> None:
    require_mosquitto("openssl")
    own, other = self_signed(server_dir, "own"), self_signed(server_dir, "other")
    lines = ("allow_anonymous true", f"certfile {own}", f"keyfile {server_dir / 'own.key'}")
    with Mosquitto(server_dir, lines) as server:
        url = server.url.replace("mqtt:", "mqtts:")
        settings = MqttSettings(url=url, ca_file=own, timeout_s=5.0)
        sink = MqttSink(settings, tls=load_tls(settings))
        await sink.open()
        await sink.write([detections_made(number) for number in range(50)])
        await sink.close()
        (found,) = await MqttCheck(settings).look()
        assert found.what == f"{url} takes connections"
        wrong = MqttSettings(url=url, ca_file=other, timeout_s=5.0)
        with pytest.raises(RefusedError, match=r"no TLS connection .*mqtt.ca_file \(STANDGALE_MQTT__CA_FILE\)"):
            await MqttSink(wrong, tls=load_tls(wrong)).open()

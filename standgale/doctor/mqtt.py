"""Checks whether the MQTT broker, where the settings name one, takes a connection with their login."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec

from infra.extras import install_extra
from infra.process.settings_sources import secret_file
from infra.secrets import present_secret
from sinks.mqtt.settings import MqttSettings
from sinks.mqtt.tls import load_tls
from standgale.doctor.examine import in_thread
from standgale.doctor.port import Finding, ok, problem


class MqttCheck:
    """Connects as a client of its own name, publishes nothing, and disconnects."""

    subject = "mqtt"

    def __init__(self, settings: MqttSettings) -> None:
        self._settings = settings

    async def look(self) -> Sequence[Finding]:
        """See :class:`.port.Check`."""
        if self._settings.url is None:
            return [ok("no broker is set (mqtt.url)")]
        if not find_spec("aiomqtt"):
            return [problem("the MQTT sink needs aiomqtt, which is not installed", install_extra("mqtt"))]
        # Imported here: it needs the extra "mqtt".
        from sinks.mqtt.connection import connect  # noqa: PLC0415

        settings, file = self._settings, secret_file("mqtt.password")
        password = await in_thread(lambda: present_secret(file, settings.password))
        client_id = f"{settings.client_id}-doctor-{os.getpid()}"
        connection = await connect(settings, client_id, password, load_tls(settings), has_status=False)
        await connection.close(has_status=False)
        return [ok(f"{settings.url} takes connections")]

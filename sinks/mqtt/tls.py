"""Loads the certificates that the settings of the MQTT sink name."""

from __future__ import annotations

import ssl

from infra.network.tls import add_certificate, trusting_tls
from sinks.mqtt.settings import MqttSettings


def load_tls(settings: MqttSettings) -> ssl.SSLContext | None:
    """Return the TLS context of connections; None for a url without TLS. Raises SettingsError for unusable files."""
    if not settings.has_tls:
        return None
    context = trusting_tls(settings.ca_file, settings.named("ca_file"))
    if settings.certificate_file is not None:
        named = settings.named("certificate_file", "key_file")
        add_certificate(context, settings.certificate_file, settings.key_file, named)
    return context

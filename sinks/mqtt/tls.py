"""Loads the certificates that the settings of the MQTT sink name."""

from __future__ import annotations

import ssl

from infra.errors import SettingsError
from sinks.mqtt.settings import MqttSettings


def load_tls(settings: MqttSettings) -> ssl.SSLContext | None:
    """Return the TLS context of connections; None for a url without TLS. Raises SettingsError for unusable files."""
    if not settings.has_tls:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"{settings.named('ca_file')}: {settings.ca_file} cannot be used ({error}); give a PEM file with the "
            "certificates that signed the broker's"
        ) from error
    if settings.certificate_file is None:
        return context
    try:
        # Without a function here OpenSSL would ask for the password of a locked key at the terminal.
        context.load_cert_chain(settings.certificate_file, settings.key_file, lambda: "")
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"{settings.named('certificate_file', 'key_file')}: {settings.certificate_file} and {settings.key_file} "
            f"cannot be used ({error}); give PEM files that belong together, with a key that is not locked"
        ) from error
    return context

"""Loads the certificates that the broker settings name."""

from __future__ import annotations

import ssl

from infra.broker.settings import BrokerSettings
from infra.network.tls import add_certificate, trusting_tls


def load_certificates(settings: BrokerSettings) -> ssl.SSLContext:
    """Return the TLS context of connections. Raises SettingsError for files that cannot be used."""
    context = trusting_tls(settings.ssl_cafile, settings.named("ssl_cafile"))
    if settings.ssl_certfile is not None:
        password = settings.ssl_keyfile_password
        add_certificate(
            context,
            settings.ssl_certfile,
            settings.ssl_keyfile,
            settings.named("ssl_certfile", "ssl_keyfile", "ssl_keyfile_password"),
            "" if password is None else password.get_secret_value(),
        )
    return context

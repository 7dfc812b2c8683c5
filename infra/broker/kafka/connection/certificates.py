"""Loads the certificates that the broker settings name."""

from __future__ import annotations

import ssl

from aiokafka.helpers import create_ssl_context

from infra.broker.settings import BrokerSettings
from infra.errors import SettingsError


def load_certificates(settings: BrokerSettings) -> ssl.SSLContext:
    """Return the TLS context with this client's authorities and certificate.

    Raises SettingsError for files that cannot be used.
    """
    password = settings.ssl_keyfile_password
    try:
        context: ssl.SSLContext = create_ssl_context(cafile=settings.ssl_cafile)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"broker.ssl_cafile: {settings.ssl_cafile} cannot be used ({error}); give a PEM file with the "
            "certificates that signed the broker's"
        ) from error
    if settings.ssl_certfile is None:
        return context
    try:
        # Without a function here OpenSSL would ask for the password of a locked key at the terminal.
        context.load_cert_chain(
            settings.ssl_certfile,
            settings.ssl_keyfile,
            lambda: "" if password is None else password.get_secret_value(),
        )
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"broker.ssl_certfile, broker.ssl_keyfile: {settings.ssl_certfile} and {settings.ssl_keyfile} cannot "
            f"be used ({error}); give PEM files that belong together, and broker.ssl_keyfile_password when the "
            "key is locked"
        ) from error
    return context

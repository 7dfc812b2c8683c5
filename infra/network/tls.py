"""Makes the TLS contexts of clients from the certificate files that settings name."""

from __future__ import annotations

import ssl
from pathlib import Path

from infra.errors import SettingsError


def trusting_tls(ca_file: Path | None, setting: str) -> ssl.SSLContext:
    """Return a context that trusts the authorities in ``ca_file``; None: those of this machine.

    Raises SettingsError, which begins with ``setting``, for a file that cannot be used.
    """
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"{setting} is {ca_file}, which cannot be used ({error.strerror or error}); give a PEM file with the "
            "certificates that signed the server's"
        ) from error


def add_certificate(
    context: ssl.SSLContext, certificate_file: Path, key_file: Path | None, settings: str, password: str = ""
) -> None:
    """Let this client show a certificate, whose key ``password`` unlocks.

    Raises SettingsError, which begins with ``settings``, for files that cannot be used.
    """
    try:
        # Without a function here OpenSSL would ask for the password of a locked key at the terminal.
        context.load_cert_chain(certificate_file, key_file, lambda: password)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"{settings}: {certificate_file} and {key_file} cannot be used ({error.strerror or error}); give PEM files "
            "that belong together; a locked key cannot be read without its password"
        ) from error

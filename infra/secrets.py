"""Reads secrets from files, and collects all secret values of the settings so that logs can mask them."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, SecretStr


def secret_in(file: Path) -> str:
    """Return the secret in ``file``, without the line's end. Raises OSError or UnicodeDecodeError."""
    return file.read_text(encoding="utf-8").rstrip("\r\n")


def read_secret(file: Path) -> str | None:
    """Return the secret that is in ``file`` now, or None when it cannot be read."""
    try:
        return secret_in(file)
    except (OSError, UnicodeDecodeError):
        return None


def present_secret(file: Path | None, given: SecretStr | None) -> str | None:
    """Return the secret that ``file`` has now, so that a change of it needs no restart, else the ``given`` one."""
    now = None if file is None else read_secret(file)
    return now or (None if given is None else given.get_secret_value())


def secrets_of(settings: BaseModel) -> set[str]:
    """Return every secret value in ``settings``, and the passwords inside secret URLs: no log may show them."""
    found: set[str] = set()
    for name in type(settings).model_fields:
        value: object = getattr(settings, name)
        if isinstance(value, BaseModel):
            found |= secrets_of(value)
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, SecretStr):
                found |= secrets_in(item.get_secret_value())
    return found


def secrets_in(secret: str) -> set[str]:
    """Return ``secret`` and, if it is a URL with a password, the password too: as written, and decoded."""
    try:
        password = urlsplit(secret).password
    except ValueError:
        return {secret}
    return {secret, password, unquote(password)} if password else {secret}

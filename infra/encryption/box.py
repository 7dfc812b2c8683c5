"""Encrypts, decrypts and signs texts with the keys of the settings (Fernet: AES-128-CBC with HMAC-SHA-256)."""

from __future__ import annotations

import base64
import binascii
import hmac
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import mkstemp
from typing import ClassVar

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from infra.encryption.settings import EncryptionSettings
from infra.errors import SettingsError
from schemas.errors import StandgaleError

_FILE = "encryption.key"
_KEY_BYTES = 32
_SEPARATOR = "\x1f"


class SecretUnreadableError(StandgaleError):
    """A secret in the database was encrypted with a key that this process does not have."""

    code: ClassVar[str] = "SECRET_UNREADABLE"


class SecretBox:
    """Encrypts texts; each is for one purpose, so that one secret cannot stand in for another."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        """``keys``: 32 bytes each; the first encrypts."""
        self._keys = tuple(keys)
        self._fernet = MultiFernet([Fernet(base64.urlsafe_b64encode(key)) for key in keys])

    def encrypt(self, text: str, purpose: str) -> bytes:
        """Return ``text`` encrypted; two calls return different bytes."""
        return self._fernet.encrypt(f"{purpose}{_SEPARATOR}{text}".encode())

    def signature(self, text: str, purpose: str) -> str:
        """Return the signature of ``text`` with the first key: 43 characters that an address takes as they are."""
        return _signature(self._keys[0], text, purpose)

    def signatures(self, text: str, purpose: str) -> Sequence[str]:
        """Return the signatures of ``text`` with all keys; one that is given must be one of them."""
        return [_signature(key, text, purpose) for key in self._keys]

    def decrypt(self, data: bytes, purpose: str) -> str:
        """Return the text in ``data``. Raises SecretUnreadableError for another key, another purpose, changed bytes."""
        try:
            found, _, text = self._fernet.decrypt(data).decode().partition(_SEPARATOR)
        except InvalidToken as error:
            raise SecretUnreadableError(
                "a secret in the database cannot be decrypted: it was encrypted with another key than those of "
                "encryption.keys (STANDGALE_ENCRYPTION__KEYS); give all processes the same keys, the former ones too"
            ) from error
        if found != purpose:
            raise SecretUnreadableError(f"a secret in the database is for {found!r}, not for {purpose!r}")
        return text


def _signature(key: bytes, text: str, purpose: str) -> str:
    # A key of its own for each purpose, none of which says anything about the key that encrypts.
    own = hmac.digest(key, f"signatures{_SEPARATOR}{purpose}".encode(), "sha256")
    found = hmac.digest(own, text.encode("utf-8", "surrogatepass"), "sha256")
    return base64.urlsafe_b64encode(found).decode("ascii").rstrip("=")


def open_box(settings: EncryptionSettings, data_dir: Path) -> SecretBox:
    """Return the box with the keys of ``settings``, or of the file in ``data_dir``. Raises SettingsError."""
    if settings.keys:
        return SecretBox([_key_of(key.get_secret_value(), settings.named("keys")) for key in settings.keys])
    path = data_dir / _FILE
    try:
        return SecretBox([_key_of(_read_or_make(path), str(path))])
    except OSError as error:
        raise SettingsError(
            f"{path}: the key that encrypts secrets cannot be read or made ({error.strerror}); set "
            f"{settings.named('keys')}"
        ) from error


def _read_or_make(path: Path) -> str:
    """Return the text of the key file; of two processes that make it at once, both get the same."""
    with suppress(FileNotFoundError):
        return path.read_text(encoding="ascii")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Only its owner can read such a file.
    descriptor, name = mkstemp(prefix=f"{_FILE}.", dir=path.parent)
    unfinished = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(base64.b64encode(os.urandom(_KEY_BYTES)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            # A link, unlike a rename, leaves the file of the process that was faster.
            os.link(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path.read_text(encoding="ascii")


def _key_of(text: str, where: str) -> bytes:
    cleaned = text.strip().replace("-", "+").replace("_", "/")
    try:
        key = base64.b64decode(cleaned + "=" * (-len(cleaned) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != _KEY_BYTES:
        raise SettingsError(
            f"{where}: this is no key; it takes 32 random bytes in base64, as `openssl rand -base64 32` prints them"
        )
    return key

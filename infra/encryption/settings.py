"""Defines the keys that encrypt secrets in the database."""

from __future__ import annotations

from pydantic import Field, SecretStr

from infra.sections import Section


class EncryptionSettings(Section):
    """Says with which keys secrets are encrypted."""

    section = "encryption"

    keys: tuple[SecretStr, ...] = Field(
        default=(),
        description="32 random bytes in base64 each; the first one encrypts, all decrypt, so that a new one can be put "
        "before the old ones; none: a file encryption.key in data_dir, which is made when it is first needed",
    )

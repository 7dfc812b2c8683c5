"""Reads addresses of objects: ``s3://bucket/key``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

_SCHEME = "s3://"


@dataclass(frozen=True, slots=True)
class S3Address:
    """Names an object, or with a key that is empty or ends with a slash, all objects below it."""

    bucket: str
    key: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the address in ``text``. Raises ValueError that says what it takes."""
        bucket, _, key = text.removeprefix(_SCHEME).partition("/")
        if not text.startswith(_SCHEME) or not bucket:
            raise ValueError("it takes s3://bucket/key, or s3://bucket/folder/ for all in a folder")
        if any(part in (".", "..") for part in key.split("/")) or not text.isprintable():
            raise ValueError("its key has a part . or .., or a control character")
        return cls(bucket, key)

    @property
    def is_folder(self) -> bool:
        """Whether it names all objects below it."""
        return not self.key or self.key.endswith("/")

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rpartition("/")[2]

    def beside(self, name: str) -> S3Address:
        """Return the address of ``name`` in the same folder, or inside this folder."""
        folder, slash, _ = self.key.rpartition("/")
        return S3Address(self.bucket, f"{folder}{slash}{name}")

    def __str__(self) -> str:
        return f"{_SCHEME}{self.bucket}/{self.key}"

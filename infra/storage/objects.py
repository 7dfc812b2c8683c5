"""Defines what is said of the objects of an S3 server, also where its client is not installed."""

from __future__ import annotations

from dataclasses import dataclass

from infra.storage.s3_address import S3Address
from schemas.errors import StandgaleError


class ObjectMissingError(StandgaleError):
    """There is no such object."""

    code = "OBJECT_MISSING"


class ObjectTooLargeError(StandgaleError):
    """An object is larger than may be read."""

    code = "OBJECT_TOO_LARGE"


@dataclass(frozen=True, slots=True)
class ListedObject:
    """Is an object that a list has."""

    address: S3Address
    size_bytes: int

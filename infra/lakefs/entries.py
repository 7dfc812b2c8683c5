"""Defines what LakeFS says about objects, commits and branches, and reads it from JSON."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class LakeFsObject:
    """Describes an object."""

    path: str
    size_bytes: int
    checksum: str
    physical_address: str
    modified_at: datetime
    metadata: Mapping[str, str]

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> LakeFsObject:
        """Return the object in ``entry``. Raises KeyError, TypeError and ValueError for other JSON."""
        return cls(
            path=str(entry["path"]),
            size_bytes=int(entry.get("size_bytes") or 0),
            checksum=str(entry.get("checksum") or ""),
            physical_address=str(entry.get("physical_address") or ""),
            modified_at=datetime.fromtimestamp(int(entry.get("mtime") or 0), UTC),
            metadata={str(name): str(value) for name, value in (entry.get("metadata") or {}).items()},
        )


@dataclass(frozen=True, slots=True)
class LakeFsCommit:
    """Describes a commit."""

    id: str
    message: str
    metadata: Mapping[str, str]
    created_at: datetime

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> LakeFsCommit:
        """Return the commit in ``entry``. Raises KeyError, TypeError and ValueError for other JSON."""
        return cls(
            id=str(entry["id"]),
            message=str(entry.get("message") or ""),
            metadata={str(name): str(value) for name, value in (entry.get("metadata") or {}).items()},
            created_at=datetime.fromtimestamp(int(entry.get("creation_date") or 0), UTC),
        )


@dataclass(frozen=True, slots=True)
class LakeFsRef:
    """Names a branch or a tag, and the commit that it points to."""

    name: str
    commit_id: str

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> LakeFsRef:
        """Return the ref in ``entry``. Raises KeyError, TypeError and ValueError for other JSON."""
        return cls(str(entry["id"]), str(entry["commit_id"]))


@dataclass(frozen=True, slots=True)
class LakeFsRepositoryInfo:
    """Describes a repository."""

    name: str
    storage_namespace: str
    default_branch: str

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> LakeFsRepositoryInfo:
        """Return the repository in ``entry``. Raises KeyError, TypeError and ValueError for other JSON."""
        return cls(str(entry["id"]), str(entry["storage_namespace"]), str(entry.get("default_branch") or "main"))


@dataclass(frozen=True, slots=True)
class LakeFsDownload:
    """Holds the bytes of one object as they arrive."""

    size_bytes: int | None
    """The size that the server announced, or None"""
    chunks: AsyncIterator[bytes]
    """Raises the errors of the call that began it"""

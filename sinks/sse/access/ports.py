"""Defines what the live stream needs to know about API keys and about what belongs to clients."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol
from uuid import UUID

from infra.auth.scopes import DeviceScope


class KeyHolder(Protocol):
    """Is the client of a valid API key."""

    @property
    def holder_id(self) -> str:
        """The client."""
        ...

    @property
    def token_id(self) -> str:
        """The public id of the key."""
        ...

    @property
    def scope(self) -> DeviceScope | None:
        """The devices that the client may see; None: all."""
        ...


class Keys(Protocol):
    """Knows the valid API keys; to ask for one raises a TransientError while they could not be read yet."""

    async def look_up(self, token: str) -> None:
        """Find out whether ``token``, if it is not known, was made a moment ago; many guesses cost few queries."""
        ...

    def verify(self, token: str) -> KeyHolder | None:
        """Return the client of the key ``token``; None for one that is wrong, revoked or expired."""
        ...

    def holder_of(self, token_id: str) -> KeyHolder | None:
        """Return the client of the key with that public id, while it is valid."""
        ...


class Owners(Protocol):
    """Knows what belongs to clients."""

    async def find(
        self, client_id: str, job_names: Collection[str], ids: Collection[UUID], media: Collection[str]
    ) -> Collection[tuple[UUID, str]]:
        """Return the jobs, and the runs of media, of a client that have one of these names or ids.

        Each with the name it has for its client. Raises a TransientError.
        """
        ...

    async def media_of(self, ids: Collection[UUID]) -> Mapping[UUID, tuple[str, str]]:
        """Return client and medium of those of ``ids`` that are runs of media. Raises a TransientError."""
        ...

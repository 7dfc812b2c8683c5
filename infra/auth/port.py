"""Defines how a service verifies tokens and keys."""

from __future__ import annotations

from typing import Protocol

from infra.auth.scopes import DeviceScope


class Holder(Protocol):
    """Names whom a token belongs to."""

    @property
    def holder_id(self) -> str:
        """The device of a device token, or the client of an API key."""
        ...

    @property
    def scope(self) -> DeviceScope | None:
        """The devices that a client may see; None: all."""
        ...


class Verifier(Protocol):
    """Verifies tokens; it is called once per request, so it must not wait for a database."""

    def verify(self, token: str) -> Holder | None:
        """Return the holder of ``token``, or None for an unknown or revoked one.

        Raises a TransientError while the tokens were not read yet (the database is unavailable).
        """
        ...

    async def look_up(self, token: str) -> None:
        """Find out whether ``token``, if it is not known, was made a moment ago; many guesses cost few queries."""
        ...

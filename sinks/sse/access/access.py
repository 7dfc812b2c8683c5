"""Finds out who asks for the stream, and what of it the client may see."""

from __future__ import annotations

import hmac
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import ClassVar

from starlette.datastructures import Headers

from infra.auth.bearer import bearer_token
from infra.auth.kinds import API_KEYS
from infra.auth.scopes import DeviceScope
from schemas.errors import StandgaleError
from sinks.settings import SseSettings
from sinks.sse.access.media_runs import FollowedMedia, MediaRuns
from sinks.sse.access.ports import KeyHolder, Keys, Owners
from sinks.sse.access.stream_tokens import PREFIX, StreamTokens
from sinks.sse.filters import StreamFilter, StreamQuery

TOKEN_PARAMETER = "token"  # noqa: S105 (the name of a parameter)
TOKENS_PATH = "/api/v1/detections/stream/tokens"
_MAX_TOKEN = 8_192
_KEY_PREFIX = f"{API_KEYS.prefix}_"


class UnauthorizedError(StandgaleError):
    """A key or token is missing or not valid."""

    code: ClassVar[str] = "UNAUTHORIZED"


class ForbiddenError(StandgaleError):
    """A client asks for devices that it may not see."""

    code: ClassVar[str] = "FORBIDDEN"


class NotFoundError(StandgaleError):
    """A client asks for a job or a medium that it does not have."""

    code: ClassVar[str] = "NOT_FOUND"


@dataclass(frozen=True, slots=True)
class Subscriber:
    """Is a client of the stream; without ``client_id`` nobody in particular."""

    client_id: str | None = None
    key_id: str = ""
    """The public id of the API key that it came with, or that its token was made with"""
    key_scope: DeviceScope | None = None
    """The devices that the key may see; None: all"""
    token_devices: DeviceScope | None = None
    """The devices that its token names; None: all of the key"""

    @property
    def scope(self) -> DeviceScope | None:
        """The devices that it may see; None: all."""
        return self.key_scope if self.token_devices is None else self.token_devices.within(self.key_scope)


def key_in(headers: Headers) -> str:
    """Return the key or token in ``headers``; "" without one."""
    return headers.get("x-api-key") or headers.get("x-api-token") or bearer_token(headers.get("authorization", ""))


@dataclass(frozen=True, slots=True)
class StreamAccess:
    """Knows who may follow the stream: all (``sse.access: open`` without ``sse.tokens``), or clients with a token."""

    settings: SseSettings
    keys: Keys | None = None
    """None where the server knows no API keys"""
    owners: Owners | None = None
    tokens: StreamTokens | None = None
    _runs: MediaRuns | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        """Remember whose runs are for all clients together."""
        if self.owners is not None:
            object.__setattr__(self, "_runs", MediaRuns(self.owners))

    @property
    def is_open(self) -> bool:
        """Whether clients need neither key nor token."""
        return self.settings.access == "open" and not self.settings.tokens

    async def look_up(self, headers: Headers) -> None:
        """Find out whether the API key in ``headers``, if it is not known, was made a moment ago."""
        shown = key_in(headers)
        if self.keys is not None and shown.startswith(_KEY_PREFIX):
            await self.keys.look_up(shown)

    def subscriber(self, headers: Headers, in_query: str = "") -> Subscriber:
        """Return who asks: ``in_query`` is the token in the address, which headers come before.

        Raises UnauthorizedError, and a TransientError while the keys could not be read yet.
        """
        shown = key_in(headers)
        if not shown and in_query and not in_query.startswith(PREFIX):
            raise UnauthorizedError(
                f"the token in the address is none of the live stream ({PREFIX}…): an API key in an address would be "
                f"written into logs; make a token with POST {TOKENS_PATH}"
            )
        shown = shown or in_query
        if len(shown) > _MAX_TOKEN:
            raise UnauthorizedError(f"the token has {len(shown)} characters; none has more than {_MAX_TOKEN}")
        if self.keys is not None and self.tokens is not None and shown.startswith(PREFIX):
            return self._of_token(shown, self.keys, self.tokens)
        if self.keys is not None and shown.startswith(_KEY_PREFIX):
            return self.of_key(shown)
        if self.is_open:
            return Subscriber()
        if not self._is_shared(shown):
            raise UnauthorizedError(self._wanted())
        return Subscriber()

    def of_key(self, key: str) -> Subscriber:
        """Return the client of an API key. Raises UnauthorizedError."""
        holder = None if self.keys is None else self.keys.verify(key)
        if holder is None:
            raise UnauthorizedError("the API key is not valid: it is unknown, revoked or expired")
        return _of_holder(holder)

    def is_valid(self, subscriber: Subscriber) -> bool:
        """Whether the client may still follow what it follows."""
        if not subscriber.key_id or self.keys is None:
            return True
        holder = self.keys.holder_of(subscriber.key_id)
        return holder is not None and holder.scope == subscriber.key_scope

    async def filter_of(self, subscriber: Subscriber, query: StreamQuery) -> StreamFilter:
        """Return the filter of what the client asks for, with its own jobs and the devices that it may see.

        Raises UnauthorizedError, ForbiddenError, NotFoundError, and the TransientErrors of the database.
        """
        wanted, scope = query.wanted, subscriber.scope
        if query.is_of_jobs:
            return await self._of_jobs(subscriber, query)
        if scope is not None:
            hidden = sorted(device for device in wanted.devices if not scope.holds(device))
            if hidden:
                raise ForbiddenError(f"the key or token may not see the device {hidden[0]}")
        return replace(wanted, scope=scope)

    def followed_media(self, subscriber: Subscriber, query: StreamQuery) -> FollowedMedia | None:
        """Return the media whose later runs the client follows, too; None: it follows none."""
        if not query.media or subscriber.client_id is None or self._runs is None:
            return None
        return FollowedMedia(subscriber.client_id, query.media, self._runs)

    async def _of_jobs(self, subscriber: Subscriber, query: StreamQuery) -> StreamFilter:
        wanted = query.wanted
        if subscriber.client_id is None or self.owners is None:
            if query.job_names or query.media:
                raise UnauthorizedError(
                    "jobs and media belong to clients: send the API key, or a token that was made with it, to follow "
                    "them by their names"
                )
            # Who knows the id of the events of a job has it from its client.
            return wanted
        found = await self.owners.find(subscriber.client_id, query.job_names, wanted.jobs, query.media)
        names = {name for _, name in found}
        _require("job", query.job_names, names)
        _require("medium", query.media, names)
        _require("job", {str(each) for each in wanted.jobs}, {str(id_) for id_, _ in found})
        return replace(wanted, jobs=frozenset(id_ for id_, _ in found))

    def _of_token(self, text: str, keys: Keys, tokens: StreamTokens) -> Subscriber:
        token = tokens.read(text)
        if token is None:
            raise UnauthorizedError(
                f"the token of the stream is not valid: it was changed, its time is over (sse.token_lifetime_s), or it "
                f"comes from a server with other encryption.keys; make another one with POST {TOKENS_PATH}"
            )
        holder = keys.holder_of(token.key_id)
        if holder is None:
            raise UnauthorizedError("the API key that the token was made with is not valid any more")
        own = _of_holder(holder)
        return own if token.devices is None else replace(own, token_devices=DeviceScope.of(token.devices))

    def _is_shared(self, shown: str) -> bool:
        """Whether ``shown`` is one of ``sse.tokens``; this takes the same time for every wrong one."""
        given = shown.encode("utf-8", "surrogatepass")
        matches = [hmac.compare_digest(given, each.get_secret_value().encode()) for each in self.settings.tokens]
        return any(matches)

    def _wanted(self) -> str:
        if self.keys is None:
            return "a token is required: send it as X-API-Token or as Authorization: Bearer"
        return (
            "a key or token is required: send the API key as X-API-Key or as Authorization: Bearer, or a token of "
            f"POST {TOKENS_PATH} as ?{TOKEN_PARAMETER}=…"
        )


def _of_holder(holder: KeyHolder) -> Subscriber:
    return Subscriber(holder.holder_id, holder.token_id, holder.scope)


def _require(what: str, wanted: Collection[str], found: Collection[str]) -> None:
    """Raise NotFoundError when the client has not all that is ``wanted``."""
    missing = sorted(set(wanted) - set(found))
    if missing:
        raise NotFoundError(f"there is no {what} {missing[0]}, or it is another client's")

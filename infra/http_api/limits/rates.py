"""Limits how often each address and each client may ask, and how many wrong tokens an address may try."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from hashlib import blake2b
from math import ceil, floor
from typing import Protocol

from limits import RateLimitItemPerMinute
from limits.strategies import SlidingWindowCounterRateLimiter

from infra.auth.port import Holder, Verifier
from infra.http_api.errors.api_errors import ApiError
from infra.http_api.limits.metrics import RATE_LIMITED
from infra.http_api.limits.windows import BoundedWindows

_WINDOW_S = 60
# A name that a proxy gives is no longer than an address; longer ones would only cost memory.
_MAX_ADDRESS = 64


class RateLimitError(ApiError):
    """A client asks more often than a setting allows; nothing was read."""

    code = "RATE_LIMIT_EXCEEDED"
    status = 429


@dataclass(frozen=True, slots=True)
class RateState:
    """Says how much of a rate is left, for the headers of a response."""

    name: str
    limit: int
    left: int
    reset_s: int
    """After how many seconds there is more"""


class Rate:
    """Is one rate: how many requests of one key are allowed in any minute."""

    def __init__(self, name: str, per_minute: int, most_keys: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self.per_minute = per_minute
        self._item = RateLimitItemPerMinute(per_minute, namespace=name)
        self._windows = BoundedWindows(most_keys, clock)
        self._limiter = SlidingWindowCounterRateLimiter(self._windows)

    def count(self, key: str) -> bool:
        """Count one request of ``key`` if the rate allows it; return whether it does."""
        return self._limiter.hit(self._item, key)

    def allows(self, key: str) -> bool:
        """Whether the rate allows one more request of ``key``, which is not counted."""
        return self._limiter.test(self._item, key)

    def state(self, key: str) -> RateState:
        """Return how much is left for ``key``, and when there is more."""
        previous, previous_ttl, current, current_ttl = self._windows.get_sliding_window(
            self._item.key_for(key), _WINDOW_S
        )
        counted = previous * previous_ttl / _WINDOW_S + current
        left = max(0, self.per_minute - floor(counted))
        return RateState(self.name, self.per_minute, left, self._wait_s(previous, previous_ttl, current, current_ttl))

    def _wait_s(self, previous: int, previous_ttl: float, current: int, current_ttl: float) -> int:
        """Return after how many seconds one more request is allowed, or would be if none were left."""
        if current < self.per_minute:
            # The window before fades: the wait until its share leaves room for one.
            room = self.per_minute - current
            wait_s = 0.0 if previous < room else previous_ttl - room * _WINDOW_S / previous
        else:
            # The present window becomes the one before at its end, and begins to fade.
            wait_s = current_ttl - _WINDOW_S
        return max(1, ceil(wait_s + 0.001))


class CountedRequest:
    """Is one request of an address, with the states of the rates that it is counted for.

    Within its block, the token that is verified is one of this request.
    """

    __slots__ = ("_rate", "_token", "address", "states")

    def __init__(self, address: str, rate: Rate | None = None) -> None:
        self.address = address
        self.states: list[RateState] = []
        self._rate = rate

    def __enter__(self) -> CountedRequest:
        self._token = _request.set(self)
        return self

    def __exit__(self, *error: object) -> None:
        _request.reset(self._token)

    def count(self) -> None:
        """Count it for its address. Raises RateLimitError when the address has asked too often."""
        if self._rate is not None:
            self.count_for(self._rate, self.address, "this address", "limits.address_per_minute")

    def count_for(self, rate: Rate, key: str, who: str, setting: str) -> None:
        """Count it for ``key``. Raises RateLimitError when ``rate`` does not allow it."""
        allowed = rate.count(key)
        state = rate.state(key)
        self.states.append(state)
        if not allowed:
            raise _error(state, f"{who} has made", "requests", setting)


_request: ContextVar[CountedRequest | None] = ContextVar("counted_request", default=None)


class RateSettings(Protocol):
    """Holds the limits of an API: 0 is none. The names are those of the section ``limits``, and are in error texts."""

    @property
    def address_per_minute(self) -> int:
        """The most requests of one address."""

    @property
    def device_per_minute(self) -> int:
        """The most requests of one device, or of one client of the console."""

    @property
    def bad_tokens_per_minute(self) -> int:
        """The most wrong tokens, or keys, of one address."""

    @property
    def max_counted(self) -> int:
        """The most addresses, and clients, that are counted at the same time."""


class RateLimits:
    """Counts requests by address and by client; the client is known once its token was verified.

    Nothing here waits, and each request costs some lookups, however many clients there are.
    """

    def __init__(
        self, settings: RateSettings, clock: Callable[[], float] = time.monotonic, *, holder: str = "client"
    ) -> None:
        """``holder``: the word for whom a token belongs to, in error texts and as the name of the rate."""

        def rate(name: str, per_minute: int) -> Rate | None:
            return Rate(name, per_minute, settings.max_counted, clock) if per_minute else None

        self._addresses = rate("address", settings.address_per_minute)
        self._holder = holder
        self._clients = rate(holder, settings.device_per_minute)
        self._bad_tokens = rate("bad_tokens", settings.bad_tokens_per_minute)
        self._right_tokens: OrderedDict[bytes, None] = OrderedDict()
        self._most = settings.max_counted

    def request_of(self, address: str) -> CountedRequest:
        """Return a request of ``address``, which is not counted yet; its token is verified within its block."""
        return CountedRequest(address[:_MAX_ADDRESS], self._addresses)

    def verifier(self, inner: Verifier) -> Verifier:
        """Return a verifier that asks ``inner``, and counts wrong tokens by address and requests by client."""
        return _CountingVerifier(self, inner)

    def allow_new_token(self) -> bool:
        """Return whether the address of this request may have tokens looked up: it has not sent too many wrong ones."""
        request = _request.get()
        return self._bad_tokens is None or request is None or self._bad_tokens.allows(request.address)

    def verify(self, token: str, inner: Verifier) -> Holder | None:
        """Verify ``token``, within the rates of its client and of wrong tokens. Raises RateLimitError."""
        request, key = _request.get() or CountedRequest(""), _token_key(token)
        bad = self._bad_tokens
        # Once an address has tried too many, a new token is not even looked at; those in use are not affected.
        if bad is not None and key not in self._right_tokens and not bad.allows(request.address):
            request.states.append(bad.state(request.address))
            raise _error(request.states[-1], "this address has sent", "wrong tokens", "limits.bad_tokens_per_minute")
        found = inner.verify(token)
        if found is None:
            self._right_tokens.pop(key, None)
            if bad is not None:
                bad.count(request.address)
            return None
        if bad is not None:
            self._remember(key)
        if self._clients is not None:
            request.count_for(self._clients, found.holder_id, f"this {self._holder}", "limits.device_per_minute")
        return found

    def _remember(self, key: bytes) -> None:
        if key in self._right_tokens:
            self._right_tokens.move_to_end(key)
            return
        self._right_tokens[key] = None
        if len(self._right_tokens) > self._most:
            self._right_tokens.popitem(last=False)


class _CountingVerifier:
    """Is a verifier with rates."""

    def __init__(self, rates: RateLimits, inner: Verifier) -> None:
        self._rates = rates
        self._inner = inner

    def verify(self, token: str) -> Holder | None:
        """Return the holder of ``token``. Raises RateLimitError besides the errors of the verifier inside."""
        return self._rates.verify(token, self._inner)

    async def look_up(self, token: str) -> None:
        """Let the verifier inside look ``token`` up."""
        await self._inner.look_up(token)


def _error(state: RateState, who: str, what: str, setting: str) -> RateLimitError:
    RATE_LIMITED.labels(state.name).inc()
    return RateLimitError(
        f"{who} {state.limit} {what} in a minute, which is the limit ({setting}); nothing was read",
        details=f"Send the same request again after {state.reset_s} s (Retry-After), and fewer in a minute.",
        headers={"Retry-After": str(state.reset_s)},
    )


def rate_headers(states: list[RateState]) -> Mapping[str, str]:
    """Return the headers of a response about ``states``; of several, X-RateLimit is of the one with the least left."""
    if not states:
        return {}
    least = min(states, key=lambda state: state.left)
    return {
        "X-RateLimit-Limit": str(least.limit),
        "X-RateLimit-Remaining": str(least.left),
        "X-RateLimit-Reset": str(least.reset_s),
        "RateLimit-Policy": ", ".join(f'"{state.name}";q={state.limit};w={_WINDOW_S}' for state in states),
        "RateLimit": ", ".join(f'"{state.name}";r={state.left};t={state.reset_s}' for state in states),
    }


def _token_key(token: str) -> bytes:
    # Tokens are not kept, only hashes of them.
    return blake2b(token.encode("utf-8", "surrogatepass"), digest_size=16).digest()

"""Tokens made a moment ago are looked up before a request, unless its address has sent too many wrong ones."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from starlette.types import Message, Receive, Scope, Send

from infra.http_api.limits.new_tokens import NewTokens
from infra.http_api.limits.rates import RateLimitError, RateLimits
from ingest.limits.settings import LimitsSettings


@dataclass(frozen=True)
class Device:
    holder_id: str
    scope: None = None


class Tokens:
    """Knows a token once it was looked up."""

    def __init__(self) -> None:
        self.made = {"stg_new"}
        self.known: set[str] = set()
        self.looked_up: list[str] = []

    def verify(self, token: str) -> Device | None:
        return Device("drone-1") if token in self.known else None

    async def look_up(self, token: str) -> None:
        self.looked_up.append(token)
        self.known |= self.made & {token}


async def receive() -> Message:
    return {"type": "http.request"}


async def send(message: Message) -> None:
    raise AssertionError(message)


class Site:
    """An app that verifies the token of each request within rates."""

    def __init__(self, wrong_tokens: int = 3) -> None:
        self.tokens = Tokens()
        self.rates = RateLimits(LimitsSettings(bad_tokens_per_minute=wrong_tokens))
        self.verifier = self.rates.verifier(self.tokens)
        self.app = NewTokens(self.verify, self.tokens, self.rates)
        self.found: Device | None = None

    async def verify(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.found = self.verifier.verify(scope["token"])  # type: ignore[assignment]

    async def ask(self, token: str, header: str = "X-API-Token", kind: str = "http") -> Device | None:
        value = f"Bearer {token}" if header == "Authorization" else token
        headers = [(header.lower().encode(), value.encode())]
        with self.rates.request_of("10.0.0.1"):
            await self.app({"type": kind, "headers": headers, "token": token}, receive, send)
        return self.found


@pytest.mark.parametrize("header", ["X-API-Token", "X-API-Key", "Authorization"])
@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_a_new_token_is_accepted_in_each_header(header: str, kind: str) -> None:
    site = Site()
    assert await site.ask("stg_new", header, kind) == Device("drone-1")


async def test_an_address_with_too_many_wrong_tokens_costs_no_look_up() -> None:
    site = Site(wrong_tokens=3)
    for number in range(3):
        assert await site.ask(f"stg_{number}") is None
    with pytest.raises(RateLimitError):
        await site.ask("stg_new")
    assert site.tokens.looked_up == ["stg_0", "stg_1", "stg_2"]

"""Rates of addresses, clients and wrong tokens (C-S2-084)."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from infra.http_api.limits.rates import Rate, RateLimitError, RateLimits, rate_headers
from infra.http_api.limits.windows import BoundedWindows
from ingest.limits.settings import LimitsSettings


@dataclass
class Clock:
    now: float = 1_000_000 * 60.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Device:
    holder_id: str
    scope: None = None


class Tokens:
    def __init__(self) -> None:
        self.asked: list[str] = []

    def verify(self, token: str) -> Device | None:
        self.asked.append(token)
        return Device(token.removeprefix("good-")) if token.startswith("good-") else None

    async def look_up(self, token: str) -> None:
        """Find nothing new."""


def test_hundred_requests_a_minute_pass_and_the_next_is_refused() -> None:
    clock = Clock()
    rate = Rate("address", 100, 10, clock)
    assert [rate.count("a") for _ in range(101)] == [True] * 100 + [False]
    assert rate.count("b")
    state = rate.state("a")
    assert (state.limit, state.left) == (100, 0)
    clock.now += state.reset_s
    assert rate.count("a")


@pytest.mark.parametrize("pause_s", [0.1, 0.55, 0.6, 7.0, 61.0])
def test_state_has_the_time_until_the_next_request_is_allowed(pause_s: float) -> None:
    clock = Clock()
    rate = Rate("device", 100, 10, clock)
    for _ in range(400):
        while not rate.count("a"):
            state = rate.state("a")
            assert state.left == 0
            assert 1 <= state.reset_s <= 61
            clock.now += state.reset_s
            assert rate.allows("a")
        clock.now += pause_s


def test_count_in_any_minute_is_about_the_limit_at_most() -> None:
    clock = Clock()
    rate = Rate("address", 100, 10, clock)
    passed: list[float] = []
    for _ in range(3_000):
        if rate.count("a"):
            passed.append(clock.now)
        clock.now += 0.1
    assert max(sum(at <= one < at + 60 for one in passed) for at in passed) <= 101
    assert len(passed) >= 495


def test_million_keys_keep_memory_bounded_and_the_newest_counted() -> None:
    windows = BoundedWindows(1_000)
    for number in range(100_000):
        assert windows.acquire_sliding_window_entry(str(number), 2, 60)
    assert len(windows) == 1_000
    assert windows.acquire_sliding_window_entry("99999", 2, 60)
    assert not windows.acquire_sliding_window_entry("99999", 2, 60)


def test_address_beyond_its_rate_is_refused_with_headers() -> None:
    rates = RateLimits(LimitsSettings(address_per_minute=2), Clock())
    for left in ("1", "0"):
        with rates.request_of("192.0.2.1") as request:
            request.count()
            assert rate_headers(request.states)["X-RateLimit-Remaining"] == left
    with rates.request_of("192.0.2.1") as request:
        with pytest.raises(RateLimitError, match=r"limits\.address_per_minute") as refused:
            request.count()
        assert rate_headers(request.states)["RateLimit-Policy"] == '"address";q=2;w=60'
    assert 1 <= int(refused.value.headers["Retry-After"]) <= 61
    with rates.request_of("192.0.2.2") as request:
        request.count()


def test_device_has_one_rate_over_addresses_and_tokens() -> None:
    rates = RateLimits(LimitsSettings(device_per_minute=2), Clock(), holder="device")
    verifier = rates.verifier(Tokens())
    for address in ("a", "b"):
        with rates.request_of(address) as request:
            assert verifier.verify("good-drone-1")
            assert request.states[0].name == "device"
    refused = pytest.raises(RateLimitError, match=r"this device has made 2 .*limits\.device_per_minute")
    with rates.request_of("c"), refused:
        verifier.verify("good-drone-1")
    with rates.request_of("a"):
        assert verifier.verify("good-drone-2")


def test_address_that_guesses_tokens_is_stopped_but_devices_in_use_are_not() -> None:
    tokens = Tokens()
    rates = RateLimits(LimitsSettings(bad_tokens_per_minute=3), Clock())
    verifier = rates.verifier(tokens)
    with rates.request_of("nat"):
        assert verifier.verify("good-drone-1")
        for number in range(3):
            assert verifier.verify(f"guess-{number}") is None
        for guess in ("guess-4", "good-drone-2"):
            with pytest.raises(RateLimitError, match=r"limits\.bad_tokens_per_minute"):
                verifier.verify(guess)
        assert verifier.verify("good-drone-1")
    assert "good-drone-2" not in tokens.asked
    with rates.request_of("elsewhere"):
        assert verifier.verify("good-drone-2")


def test_without_settings_nothing_but_wrong_tokens_is_counted() -> None:
    rates = RateLimits(LimitsSettings())
    verifier = rates.verifier(Tokens())
    for _ in range(500):
        with rates.request_of("a") as request:
            request.count()
            assert verifier.verify("good-drone-1")
            assert rate_headers(request.states) == {}

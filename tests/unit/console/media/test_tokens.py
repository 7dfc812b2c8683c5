"""When a token of a caller expires, by what it says itself."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from console.media.tokens import expiry_of, refresh_time


def token(claims: object) -> str:
    body = base64.urlsafe_b64encode(orjson.dumps(claims)).decode().rstrip("=")
    return f"e30.{body}.c2ln"


def test_the_expiry_of_a_token_is_read_without_its_signature() -> None:
    """C-S3-026."""
    moment = datetime(2026, 11, 30, 12, tzinfo=UTC)
    assert expiry_of(token({"exp": moment.timestamp()})) == moment
    assert refresh_time(token({"exp": int(moment.timestamp())})) == moment - timedelta(seconds=60)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "opaque",
        "a.b.c",
        "a..c",
        "e30.%%%.c",
        token([]),
        token({}),
        token({"exp": "soon"}),
        token({"exp": True}),
        token({"exp": -1}),
        token({"exp": 1e300}),
        token({"exp": 10**18}),
        token({"exp": 1, "x": "y" * 20_000}),
        "e30." + "\N{LATIN SMALL LETTER E WITH ACUTE}" + ".c",
    ],
)
def test_a_token_without_a_readable_expiry_is_never_refreshed(text: str) -> None:
    assert expiry_of(text) is None
    assert refresh_time(text) is None


def test_a_token_that_expired_long_ago_is_refreshed_now() -> None:
    found = refresh_time(token({"exp": 0}))
    assert found is not None
    assert found < datetime.now(UTC)

"""Media of the Annotations service: the caller's token goes there, is refreshed, and is forgotten at the end."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.database.pool import Database
from standgale.testing.waiting import until
from tests.harnesses.media_site import BOX, MediaSite, media_site, running, token_until, video
from tests.servers.annotations import Annotations, annotations_service

pytestmark = pytest.mark.integration

SECRETS = "SELECT source, token, refresh_token, refresh_at FROM media_runs WHERE media_id = $1"


@pytest.fixture
async def annotations() -> AsyncIterator[Annotations]:
    async with annotations_service() as found:
        yield found


@pytest.fixture
async def site(tmp_path: Path, database: Database, annotations: Annotations) -> AsyncIterator[MediaSite]:
    # No sink posts what is found here; see test_kept_tokens.py.
    async with media_site(tmp_path, database, annotations_url=annotations.url, annotate=False) as found:
        annotations.content["clip"] = video(tmp_path, 2)
        yield found


def bearer(token: str, refresh: str | None = None) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} | ({"X-Refresh-Token": refresh} if refresh else {})


async def test_the_content_is_fetched_with_the_token_of_the_caller(
    site: MediaSite, annotations: Annotations, caplog: pytest.LogCaptureFixture
) -> None:
    """C-S3-004, C-S3-012, C-S3-025, C-S3-029."""
    caplog.set_level(logging.DEBUG)
    token, refresh = token_until(time.time() + 3600), "refresh-0123456789"
    annotations.tokens.add(token)
    assert (await site.start("clip", headers=bearer(token, refresh))).status == 202
    [kept] = await site.rows(SECRETS, "clip")
    assert token.encode() not in kept["token"]
    assert BOX.decrypt(kept["token"], "media") == token
    async with running(*site.components()):
        assert (await site.events("clip"))[-1]["mediaStatus"] == "AIProcessed"
    assert annotations.bearers == [f"Bearer {token}"]
    assert annotations.refreshed == []
    [kept] = await site.rows(SECRETS, "clip")
    assert set(kept.values()) == {None}
    assert token not in caplog.text
    assert refresh not in caplog.text


async def test_an_api_key_as_bearer_token_does_not_leave_the_console(site: MediaSite, annotations: Annotations) -> None:
    """C-S3-012: without X-API-Key the bearer token is the API key."""
    response = await site.start("clip", key=None, headers=bearer(site.console.key))
    assert response.status == 202
    async with running(*site.components()):
        [event] = await site.events("clip")
    assert annotations.bearers == [None]
    assert (event["mediaStatus"], event["error"]["code"]) == ("Error", "MEDIA_FETCH_FAILED")
    assert "401" in event["error"]["message"]


async def test_a_token_is_refreshed_a_minute_before_it_expires(site: MediaSite, annotations: Annotations) -> None:
    """C-S3-026, C-S3-027."""
    new = token_until(time.time() + 3600)
    annotations.refreshes["refresh-1"] = (new, "refresh-2")
    annotations.tokens.add(new)
    await site.start("clip", headers=bearer(token_until(time.time() + 62), "refresh-1"))
    _, _, tokens = site.components()
    async with running(tokens):
        await until(lambda: len(annotations.refreshed) == 1)
    assert annotations.refreshed == [{"refreshToken": "refresh-1"}]
    [kept] = await site.rows(SECRETS, "clip")
    assert (BOX.decrypt(kept["token"], "media"), BOX.decrypt(kept["refresh_token"], "media")) == (new, "refresh-2")
    assert kept["refresh_at"].timestamp() == pytest.approx(time.time() + 3540, abs=20)
    async with running(*site.components()):
        assert (await site.events("clip"))[-1]["mediaStatus"] == "AIProcessed"
    assert annotations.bearers == [f"Bearer {new}"]


async def test_the_database_decides_when_a_refreshed_token_is_due(
    site: MediaSite, annotations: Annotations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A console whose clock is a day ahead would let the new token expire."""
    ahead = datetime.now(UTC) + timedelta(days=1)
    monkeypatch.setattr("console.media.tokens.utc_now", lambda: ahead, raising=False)
    annotations.refreshes["refresh-1"] = (token_until(time.time() + 3600), None)
    await site.start("clip", headers=bearer(token_until(time.time() + 30), "refresh-1"))
    _, _, tokens = site.components()
    async with running(tokens):
        await until(lambda: len(annotations.refreshed) == 1)
    [kept] = await site.rows(SECRETS, "clip")
    assert kept["refresh_at"].timestamp() == pytest.approx(time.time() + 3540, abs=20)


async def test_tokens_of_many_media_are_refreshed_at_once(site: MediaSite, annotations: Annotations) -> None:
    """C-S3-026: one request that waits for its time limit lets no other token expire."""
    annotations.refresh_delay_s = 0.5
    for number in range(10):
        annotations.refreshes[f"refresh-{number}"] = (token_until(time.time() + 3600), None)
        await site.start(f"clip-{number}", headers=bearer(token_until(time.time() + 30), f"refresh-{number}"))
    _, _, tokens = site.components()
    began = time.monotonic()
    async with running(tokens):
        await until(lambda: len(annotations.refreshed) == 10)
    assert time.monotonic() - began < 4
    kept = await site.rows("SELECT refresh_at, refresh_token FROM media_runs")
    assert all(row["refresh_at"].timestamp() > time.time() + 3_000 for row in kept)
    assert {BOX.decrypt(row["refresh_token"], "media") for row in kept} == set(annotations.refreshes)


@pytest.mark.parametrize("status", [401, 500])
async def test_a_failed_refresh_does_not_stop_the_run(site: MediaSite, annotations: Annotations, status: int) -> None:
    """C-S3-028."""
    annotations.refresh_status = status
    token = token_until(time.time() + 5)
    annotations.tokens.add(token)
    await site.start("clip", headers=bearer(token, "refresh-1"))
    _, _, tokens = site.components()
    async with running(tokens):
        await until(lambda: len(annotations.refreshed) == 1)
    async with running(*site.components()):
        assert (await site.events("clip"))[-1]["mediaStatus"] == "AIProcessed"
    assert len(annotations.refreshed) == 1


async def test_an_opaque_token_is_refreshed_when_it_is_refused(site: MediaSite, annotations: Annotations) -> None:
    """C-S3-026."""
    annotations.refreshes["refresh-1"] = ("new", None)
    await site.start("clip", headers=bearer("opaque", "refresh-1"))
    async with running(*site.components()):
        assert (await site.events("clip"))[-1]["mediaStatus"] == "AIProcessed"
    assert annotations.bearers[0] == "Bearer opaque"
    assert annotations.bearers[-1] == "Bearer new"
    assert len(annotations.refreshed) == 1


async def test_a_refused_refresh_is_not_asked_for_again(site: MediaSite, annotations: Annotations) -> None:
    annotations.refresh_status = 401
    await site.start("clip", headers=bearer("opaque", "refresh-1"))
    async with running(*site.components()):
        last = (await site.events("clip"))[-1]
    assert (last["mediaStatus"], last["error"]["code"]) == ("Error", "MEDIA_FETCH_FAILED")
    assert len(annotations.refreshed) == 1


@pytest.mark.parametrize("wrong", ["a\0b", "a\r\nX-More: 1", "\u00e4", ""])
async def test_a_refreshed_token_that_no_header_takes_is_not_kept(
    site: MediaSite, annotations: Annotations, wrong: str
) -> None:
    annotations.refreshes["refresh-1"] = (wrong, None)
    token = token_until(time.time() + 5)
    annotations.tokens.add(token)
    await site.start("clip", headers=bearer(token, "refresh-1"))
    _, _, tokens = site.components()
    async with running(tokens):
        await until(lambda: len(annotations.refreshed) == 1)
    async with running(*site.components()):
        assert (await site.events("clip"))[-1]["mediaStatus"] == "AIProcessed"


async def test_a_busy_service_is_asked_again(site: MediaSite, annotations: Annotations) -> None:
    annotations.tokens.add("plain")
    annotations.fetch_statuses = [503, 502]
    await site.start("clip", headers=bearer("plain"))
    async with running(*site.components()):
        assert (await site.events("clip"))[-1]["mediaStatus"] == "AIProcessed"
    assert len(annotations.bearers) == 3


async def test_redirects_and_unknown_media_end_with_an_error(site: MediaSite, annotations: Annotations) -> None:
    annotations.tokens.add("plain")
    annotations.fetch_statuses = [302]
    await site.start("clip", headers=bearer("plain"))
    async with running(*site.components()):
        [moved] = await site.events("clip")
        await site.start("unknown", headers=bearer("plain"))
        [unknown] = await site.events("unknown")
    assert "redirect" in moved["error"]["message"]
    assert (unknown["error"]["code"], "404" in unknown["error"]["message"]) == ("MEDIA_FETCH_FAILED", True)


async def test_tokens_with_control_characters_or_of_great_length_are_refused(site: MediaSite) -> None:
    response = await site.start("clip", headers=bearer("x" * 9_000))
    assert (response.status, response.json["field"]) == (400, "Authorization")

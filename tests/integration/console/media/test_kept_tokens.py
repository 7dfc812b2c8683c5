"""Tokens of media outlive their runs until what was found is posted to Annotations, and no longer than is set."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from infra.database.pool import Database
from infra.storage.frames.folder import FolderFrameStore
from schemas.events import DetectionsMade
from sinks.annotations.settings import AnnotationsSettings
from sinks.annotations.sink import AnnotationsSink
from standgale.testing.waiting import until
from tests.harnesses.job_site import answer_of
from tests.harnesses.media_site import BOX, MediaSite, media_site, running, token_until, video
from tests.servers.annotations import Annotations, annotations_service

pytestmark = pytest.mark.integration

TOKEN, NEW = token_until(time.time() + 3_600), token_until(time.time() + 7_200)
SECRETS = "SELECT token, refresh_token, refresh_at FROM media_runs"


@pytest.fixture
async def service() -> AsyncIterator[Annotations]:
    async with annotations_service() as found:
        found.tokens |= {TOKEN, NEW}
        yield found


@pytest.fixture
async def site(tmp_path: Path, database: Database, service: Annotations) -> AsyncIterator[MediaSite]:
    async with media_site(tmp_path, database, annotations_url=service.url) as found:
        service.content["clip"] = video(tmp_path, 2)
        yield found


async def detect(site: MediaSite, **headers: str) -> list[DetectionsMade]:
    """Let a medium end, and return its events, which nobody has posted."""
    response = await site.start("clip", headers={"Authorization": f"Bearer {TOKEN}", **headers})
    assert response.status == 202
    runner, publisher, _ = site.components()
    async with running(runner, publisher):
        assert (await site.events("clip"))[-1]["mediaStatus"] == "AIProcessed"
    return [answer_of(frame) for frame in site.detectors.frames]


async def secrets(site: MediaSite) -> set[Any]:
    [row] = await site.rows(SECRETS)
    return set(row.values())


async def test_a_token_is_kept_after_the_run_until_all_is_posted(
    site: MediaSite, service: Annotations, tmp_path: Path
) -> None:
    """C-S3-020, C-S3-025, C-S3-029: Annotations was away when the medium ended."""
    events = await detect(site)
    *_, tokens = site.components()
    sink = AnnotationsSink(
        site.console.database,
        FolderFrameStore(tmp_path / "frames"),
        BOX,
        AnnotationsSettings(image=False),
        service.url,
    )
    await sink.write(events[:1])
    await tokens.work()
    assert await secrets(site) != {None}
    await sink.write(events[1:])
    await tokens.work()
    assert await secrets(site) == {None}
    assert {post.token for post in service.taken} == {TOKEN}
    assert [post.body["videoTime"] for post in service.taken] == [0.0, 0.0]
    await sink.close()


async def test_a_kept_token_is_refreshed_and_forgotten_at_its_time(site: MediaSite, service: Annotations) -> None:
    """C-S3-026."""
    service.refreshes["again"] = (NEW, None)
    await detect(site, **{"X-Refresh-Token": "again"})
    async with site.console.database.acquire(writing=True) as connection:
        await connection.execute("UPDATE media_runs SET refresh_at = now()")
    *_, tokens = site.components()
    async with running(tokens):
        await until(lambda: len(service.refreshed) == 1)
    [row] = await site.rows(SECRETS)
    assert BOX.decrypt(row["token"], "media") == NEW
    async with site.console.database.acquire(writing=True) as connection:
        await connection.execute("UPDATE media_runs SET finished_at = now() - interval '61 min'")
    await tokens.work()
    assert await secrets(site) == {None}


async def test_a_medium_without_a_token_is_not_posted(site: MediaSite) -> None:
    """C-S3-020."""
    await site.start("other", headers={})
    [row] = await site.rows("SELECT annotate FROM media_runs")
    assert row["annotate"] is False

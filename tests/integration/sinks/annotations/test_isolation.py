"""An Annotations service that hangs, fails or is away delays no other sink, and gets everything once afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from infra.consuming.port import Sink
from infra.database.pool import Database
from schemas.topics import DETECTIONS
from sinks.annotations.payloads import post_id
from sinks.postgres.sink import PostgresSink
from standgale.testing.sink_site import SinkSite
from standgale.testing.waiting import until
from tests.harnesses.annotation_site import AnnotationSite, found_event
from tests.servers.annotations import Annotations, Posted, annotations_service

pytestmark = pytest.mark.integration


@pytest.fixture
async def service() -> AsyncIterator[Annotations]:
    async with annotations_service() as found:
        found.tokens.add("caller")
        yield found


@pytest.fixture
async def site(tmp_path: Path, database: Database, service: Annotations) -> AsyncIterator[AnnotationSite]:
    found = AnnotationSite(database, tmp_path, service.url)
    yield found
    await found.close()


@pytest.mark.parametrize("trouble", ["hangs", "fails"])
async def test_a_service_in_trouble_delays_no_other_sink_and_gets_each_frame_once(
    site: AnnotationSite, service: Annotations, tmp_path: Path, trouble: str
) -> None:
    """K3, K5."""
    run, well = await site.run(), asyncio.Event()
    events = [found_event(number, run) for number in range(30)]

    async def answer_post(_: Posted) -> web.Response:
        if well.is_set():
            return web.Response(status=201)
        if trouble == "hangs":
            await well.wait()
        return web.Response(status=502)

    service.answer_post = answer_post
    broker = SinkSite(tmp_path / "broker")
    sink, other = site.sink(timeout_s=0.2), PostgresSink(site.database)
    await broker.publish(DETECTIONS, events)

    async def committed(name: Sink[Any]) -> bool:
        return await broker.lag(name) == 0

    async with broker.running(other), broker.running(sink):
        await until(lambda: committed(other), "the other sink waits")
        await until(lambda: not broker.is_ready, "the sink does not show that it waits")
        assert await broker.lag(sink) == len(events)
        well.set()
        await until(lambda: committed(sink), "the posts are not made")
        assert broker.is_ready
    assert await broker.dead_letters() == []
    assert sorted(post.key for post in service.taken) == sorted(str(post_id(run, each.frame_id)) for each in events)
    await broker.close()


async def test_frames_of_a_refused_medium_become_dead_letters_and_do_not_hold_others(
    site: AnnotationSite, service: Annotations, tmp_path: Path
) -> None:
    """C-S3-023: more than half of all records are refused, and the sink goes on."""
    refused, good = await site.run("unknown", "wrong"), await site.run("clip")
    events = [found_event(number, good if number % 4 == 0 else refused) for number in range(60)]
    broker, sink = SinkSite(tmp_path / "broker"), site.sink()
    await broker.publish(DETECTIONS, events)
    async with broker.running(sink):
        await until(lambda: _is_done(broker, sink), "the sink holds")
    letters = await broker.dead_letters()
    assert {letter.frame_id for letter in letters} == {event.frame_id for event in events if event.job_id == refused}
    assert {letter.reason for letter in letters} == {"ANNOTATION_REFUSED"}
    assert "answered 401" in letters[0].message
    assert len(service.taken) == 15
    # Each was posted once, although the loop looked for them in halves.
    assert len(service.posts) == 60
    await broker.close()


async def _is_done(broker: SinkSite, sink: Sink[Any]) -> bool:
    return await broker.lag(sink) == 0

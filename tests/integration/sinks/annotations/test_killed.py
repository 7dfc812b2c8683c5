"""The sink for Annotations is killed again and again: the service can tell each post from one that it has taken."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest

from infra.broker.embedded.adapter import EmbeddedBroker
from infra.database.pool import Database
from schemas.topics import DETECTIONS, load_topics
from sinks.annotations.payloads import post_id
from standgale.testing.factories import out_record
from standgale.testing.waiting import until
from tests.harnesses.annotation_site import AnnotationSite, found_event
from tests.servers.annotations import Annotations, annotations_service

pytestmark = [pytest.mark.integration, pytest.mark.faults]

KILLS = 20
FRAMES = 400
_MADE_AT_ONCE = 4


async def _publish(broker: EmbeddedBroker, site: AnnotationSite) -> set[str]:
    run = await site.run()
    events = [found_event(number, run) for number in range(FRAMES)]
    publisher = await broker.publisher()
    await publisher.publish([out_record(event, DETECTIONS) for event in events])
    await publisher.close()
    return {str(post_id(run, event.frame_id)) for event in events}


async def test_twenty_kills_leave_each_post_taken_and_none_made_without_need(
    shared_dsn: str, database: Database, tmp_path: Path
) -> None:
    """K3: a post whose response a killed process did not get is made again with the same key."""
    broker = EmbeddedBroker(tmp_path / "broker.db", load_topics())
    async with annotations_service() as service:
        service.tokens.add("caller")
        wanted = await _publish(broker, AnnotationSite(database, tmp_path, service.url))
        starter = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "tests.harnesses.annotation_process", shared_dsn, str(tmp_path), service.url),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert starter.stdin is not None
        assert starter.stdout is not None
        child = 0
        try:
            for kill in range(KILLS + 1):
                starter.stdin.write(b"\n")
                child = int(await asyncio.wait_for(starter.stdout.readline(), 30))
                if kill < KILLS:
                    await _after_some_posts(service, random.Random(kill).randint(1, 15))
                    os.kill(child, signal.SIGKILL)
            await until(lambda: {post.key for post in service.taken} == wanted, timeout_s=30)
            await until(lambda: _is_done(broker), timeout_s=30)
        finally:
            os.kill(child, signal.SIGKILL)
            starter.kill()
            await starter.wait()
    counts = Counter(post.key for post in service.taken)
    assert sum(counts.values()) - len(counts) <= KILLS * _MADE_AT_ONCE
    async with database.acquire() as connection:
        assert await connection.fetchval("SELECT count(*) FROM annotation_posts WHERE posted") == FRAMES
    await broker.close()


async def _after_some_posts(service: Annotations, more: int) -> None:
    before = len(service.posts)
    await until(lambda: len(service.posts) >= before + more, timeout_s=30)


async def _is_done(broker: EmbeddedBroker) -> bool:
    admin = await broker.admin()
    lag = await admin.group_lag("sink.annotations", (DETECTIONS,))
    await admin.close()
    return sum(lag.values()) == 0

"""The sink that posts to Annotations keeps the sink contract."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiohttp import web

from infra.consuming.port import Sink
from infra.database.pool import Database
from infra.database.settings import DatabaseSettings
from schemas.event_base import Event
from sinks.annotations.payloads import post_id
from standgale.testing.sink import SinkContract, SinkHarness
from tests.harnesses.annotation_site import AnnotationSite, found_event
from tests.servers.annotations import Annotations, Posted, annotations_service
from tests.servers.postgres_roles import Role, role

pytestmark = pytest.mark.integration

PASSWORD = "first-secret"
_POISON_S = 777.0


class AnnotationsHarness(SinkHarness):
    """The service, and the database in which the sink notes what was taken; both are away at once."""

    def __init__(self, site: AnnotationSite, service: Annotations, sink_role: Role, run: UUID) -> None:
        self._site, self._service, self._role, self._run = site, service, sink_role, run
        self._events: dict[str, UUID] = {}
        self._is_away = False
        service.answer_post = self._answer

    async def _answer(self, post: Posted) -> web.Response:
        if self._is_away:
            return web.Response(status=503)
        return web.Response(status=400 if post.body["videoTime"] == _POISON_S else 201)

    def make_sink(self) -> Sink[Any]:
        return self._site.sink()

    async def stored(self) -> Collection[UUID]:
        """Each post that was taken: one that is made twice counts twice."""
        return [self._events[post.key] for post in self._service.taken]

    def event(self, number: int) -> Event:
        event = found_event(number, self._run)
        self._events[str(post_id(self._run, event.frame_id))] = event.id
        return event

    def poison(self, number: int) -> Event:
        event = found_event(number, self._run)
        assert event.video is not None
        return event.model_copy(update={"video": event.video.model_copy(update={"presentation_time_s": _POISON_S})})

    async def take_away(self) -> None:
        self._is_away = True
        await self._role.execute("ALTER ROLE {role} NOLOGIN")
        await self._role.cut()

    async def bring_back(self) -> None:
        self._is_away = False
        await self._role.execute("ALTER ROLE {role} LOGIN")


class TestAnnotationsSink(SinkContract):
    @pytest.fixture
    async def harness(self, migrated_dsn: str, tmp_path: Path) -> AsyncIterator[AnnotationsHarness]:
        async with role(migrated_dsn, PASSWORD) as sink_role, annotations_service() as service:
            database = Database.open(DatabaseSettings(url=sink_role.dsn(PASSWORD)), tmp_path)
            site = AnnotationSite(database, tmp_path, service.url)
            harness = AnnotationsHarness(site, service, sink_role, await site.run())
            yield harness
            await site.close()
            await database.close()

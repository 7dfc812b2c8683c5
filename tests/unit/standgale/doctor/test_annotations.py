"""The doctor reaches the Annotations service, where something is posted to it."""

from __future__ import annotations

from console.media.settings import MediaSettings
from infra.deploy.ports import free_port
from standgale.doctor.annotations import AnnotationsCheck
from tests.servers.annotations import annotations_service


async def look(settings: MediaSettings) -> list[tuple[str, str]]:
    return [(one.level, one.what) for one in await AnnotationsCheck(settings, 1.0).look()]


async def test_a_service_that_responds_is_in_order() -> None:
    async with annotations_service() as service:
        [(level, what)] = await look(MediaSettings(annotations_url=service.url))
        assert (level, "responds (401)" in what) == ("ok", True)
        assert service.posts == []


async def test_a_service_that_is_away_is_a_warning_with_its_address() -> None:
    port = free_port()
    [(level, what)] = await look(MediaSettings(annotations_url=f"http://127.0.0.1:{port}"))
    assert (level, f"127.0.0.1:{port}" in what) == ("warning", True)


async def test_without_an_address_nothing_is_asked() -> None:
    assert await look(MediaSettings()) == [("ok", "nothing is posted to an Annotations service")]

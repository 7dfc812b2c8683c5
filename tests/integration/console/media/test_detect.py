"""POST /detect: one picture, answered with its detections."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from console.ports import AnyModel
from infra.database.pool import Database
from infra.errors import ImageCorruptError
from schemas.event_base import ModelRef
from tests.harnesses.media_site import MediaSite, media_site, running
from tests.harnesses.uploads import picture
from tests.servers.console import running_console

pytestmark = pytest.mark.integration

JPEG = {"Content-Type": "image/jpeg"}


@pytest.fixture
async def site(tmp_path: Path, database: Database) -> AsyncIterator[MediaSite]:
    async with media_site(tmp_path, database, answer_timeout_s=5, max_direct=1) as found:
        yield found


async def test_a_picture_gets_a_list_of_detections(site: MediaSite) -> None:
    """C-S3-001, C-S3-002."""
    async with running(*site.components()):
        response = await site.console.post("/detect", data=picture(), headers=JPEG)
    assert response.status == 200, response.body
    [found] = response.json
    assert list(found) == ["centerX", "centerY", "width", "height", "classNum", "label", "confidence"]
    assert (found["centerX"], found["width"], found["label"]) == (0.5, 0.5, "bird")
    assert await site.rows("SELECT id FROM media_runs") == []


async def test_a_form_with_a_picture_and_its_config_is_detected(site: MediaSite) -> None:
    form = aiohttp.FormData()
    form.add_field("file", picture(), filename="a.jpg")
    form.add_field("config", '{"options": {"confidence": 0.3}}')
    async with running(*site.components()):
        response = await site.console.post("/detect", data=form)
    assert response.status == 200, response.body
    assert site.detectors.frames[0].options.confidence == 0.3


async def test_a_picture_that_detectors_cannot_read_has_their_code(site: MediaSite) -> None:
    site.detectors.failing = ImageCorruptError("the JPEG ends early")
    async with running(*site.components()):
        response = await site.console.post("/detect", data=picture(), headers=JPEG)
    assert (response.status, response.code) == (422, "FILE_ERROR")


async def test_without_detectors_the_request_ends_in_time(tmp_path: Path, database: Database) -> None:
    async with media_site(tmp_path, database, answer_timeout_s=0.3) as site:
        response = await site.console.post("/detect", data=picture(), headers=JPEG)
        assert (response.status, response.code) == (504, "DETECTION_TIMEOUT")
        assert await site.rows("SELECT id FROM media_runs") == []


def form(*parts: tuple[str, bytes]) -> aiohttp.FormData:
    made = aiohttp.FormData(default_to_multipart=True)
    for name, data in parts:
        made.add_field(name, data, filename="a.jpg")
    return made


async def test_wrong_parts_of_a_form_are_named_at_any_size(site: MediaSite) -> None:
    """A picture under another name was too large for a field, and its error had the limit of pictures."""
    large = picture(width=640, height=640)
    assert len(large) > 65_536
    for sent, name, text in (
        (form(("picture", large)), "picture", "the picture must be called file"),
        (form(("file", large), ("file", large)), "file", "a second picture, in the part 'file'; it takes one"),
        (form(("file", large), ("image", large)), "image", "a second picture, in the part 'image'; it takes one"),
        (form(("", large)), "name", "the picture must be called file"),
    ):
        response = await site.console.post("/detect", data=sent)
        assert (response.status, response.code) == (400, "VALIDATION_ERROR"), name
        assert (response.json["field"], text in response.json["message"]) == (name, True), response.json["message"]
    config = await site.console.post("/detect", data=form(("file", large), ("config", bytes(70_000))))
    assert (config.code, config.json["field"]) == ("FILE_TOO_LARGE", "config")
    assert "at most 65536" in config.json["message"]


async def test_videos_without_their_library_are_refused_at_the_request(
    site: MediaSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    for kind in ("video/mp4", "application/octet-stream"):
        response = await site.console.post("/detect/clip", data=bytes(200), headers={"Content-Type": kind})
        assert (response.status, response.code) == (501, "NOT_INSTALLED"), kind
        assert "pip install -e '.[video]'" in response.json["details"]
    assert (await site.console.post("/detect/photo", data=picture(), headers=JPEG)).status == 202


async def test_a_prompt_for_a_model_without_text_is_refused(tmp_path: Path, database: Database) -> None:
    class Plain(AnyModel):
        async def takes_prompt(self, model: ModelRef) -> bool:
            return False

    async with running_console(tmp_path, database, models=Plain()) as console:
        config = {"config": '{"options": {"prompt": "bird"}, "model": {"name": "small", "version": "1"}}'}
        for path in ("/detect", "/detect/photo"):
            response = await console.post(path, data=picture(), headers=JPEG, params=config)
            assert (response.status, response.code, response.json["field"]) == (400, "INVALID_CONFIG", "options.prompt")


async def test_wrong_pictures_and_bodies_are_refused(site: MediaSite) -> None:
    post = site.console.post
    assert (await post("/detect", data=b"GIF89a", headers=JPEG)).code == "INVALID_FORMAT"
    assert (await post("/detect", data=picture(width=20), headers=JPEG)).code == "INVALID_DIMENSIONS"
    assert (await post("/detect", json={})).status == 415
    assert (await post("/detect", data=picture(), headers=JPEG, params={"model": "x"})).json["field"] == "model"
    no_picture = aiohttp.FormData({"config": "{}"}, default_to_multipart=True)
    assert (await post("/detect", data=no_picture)).json["field"] == "file"
    assert (await post("/detect", data=picture(), headers=JPEG, params={"config": "[]"})).status == 400

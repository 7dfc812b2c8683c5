"""POST /detect: one picture, answered with its detections."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from infra.database.pool import Database
from infra.errors import ImageCorruptError
from tests.harnesses.media_site import MediaSite, media_site, running
from tests.harnesses.uploads import picture

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


async def test_wrong_pictures_and_bodies_are_refused(site: MediaSite) -> None:
    post = site.console.post
    assert (await post("/detect", data=b"GIF89a", headers=JPEG)).code == "INVALID_FORMAT"
    assert (await post("/detect", data=picture(width=20), headers=JPEG)).code == "INVALID_DIMENSIONS"
    assert (await post("/detect", json={})).status == 415
    assert (await post("/detect", data=picture(), headers=JPEG, params={"model": "x"})).json["field"] == "model"
    no_picture = aiohttp.FormData({"config": "{}"}, default_to_multipart=True)
    assert (await post("/detect", data=no_picture)).json["field"] == "file"
    assert (await post("/detect", data=picture(), headers=JPEG, params={"config": "[]"})).status == 400

"""Pictures of a job: the original byte for byte, boxes drawn where they were found, and what a job may turn off."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from console.results.pictures import DrawOptions, PictureDrawer
from console.settings import ConsoleSettings
from console.uploads.records import UploadedFile
from infra.database.pool import Database
from infra.http_api.errors.api_errors import OverloadedError
from infra.storage.frames.folder import FolderFrameStore
from tests.harnesses.job_site import JobSite, job_site
from tests.harnesses.uploads import picture, upload

pytestmark = pytest.mark.integration

DARK = cv2.imencode(".png", np.zeros((400, 800, 3), np.uint8))[1].tobytes()


@pytest.fixture
async def site(tmp_path: Path, database: Database) -> AsyncIterator[JobSite]:
    async with job_site(tmp_path, database) as found:
        yield found


async def completed(site: JobSite, count: int = 1, **config: Any) -> tuple[str, list[str]]:
    files = [(f"{number}.png", DARK) for number in range(count)]
    sent = (await upload(site.console, *files)).json["data"]
    job = (await site.ask(sent["upload_id"], config=config)).json["data"]["job_id"]
    await site.answer(*await site.publish())
    return job, [each["file_id"] for each in sent["uploaded_files"]]


def pixels(data: bytes) -> np.ndarray[Any, Any]:
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert found is not None
    return found


async def test_addresses_lead_to_the_original_the_drawn_and_the_small_picture(site: JobSite) -> None:
    """C-S2-060, C-S2-061, C-S2-064."""
    job, [file] = await completed(site)
    found = (await site.console.get(f"/api/v1/jobs/{job}/visualization")).json["data"]
    [entry] = found["visualizations"]
    assert (entry["file_id"], entry["filename"], entry["detection_count"]) == (file, "0.png", 1)
    assert (await site.console.get(entry["original_url"])).body == DARK
    annotated = await site.console.get(entry["annotated_url"])
    assert annotated.headers["Content-Type"] == "image/jpeg"
    drawn = pixels(annotated.body)
    assert drawn.shape == (400, 800, 3)
    # The box is from a quarter of the width to three quarters, from half of the height down.
    assert drawn[200:, 195:205].max() > 100
    assert drawn[:100].max() < 40
    small = pixels((await site.console.get(entry["thumbnail_url"])).body)
    assert small.shape == (160, 320, 3)
    assert small.max() > 100
    # Without a job in the query it is the last one that was completed.
    assert (await site.console.get(f"/api/v1/files/{file}/annotated")).body == annotated.body


async def test_pictures_come_as_data_urls_of_one_file_or_of_ten(site: JobSite) -> None:
    """C-S2-062, C-S2-063."""
    job, files = await completed(site, 2)
    path = f"/api/v1/jobs/{job}/visualization?format=base64"
    one = (await site.console.get(f"{path}&file_id={files[0]}")).json["data"]
    assert (one["file_id"], one["format"], one["detection_count"]) == (files[0], "base64", 1)
    kind, _, content = one["original_image"].partition(",")
    assert (kind, base64.b64decode(content)) == ("data:image/png;base64", DARK)
    assert one["annotated_image"].startswith("data:image/jpeg;base64,")
    both = (await site.console.get(path)).json["data"]
    assert [each["file_id"] for each in both["visualizations"]] == files
    many, _ = await completed(site, 11)
    response = await site.console.get(f"/api/v1/jobs/{many}/visualization?format=base64")
    assert (response.status, response.code) == (400, "INVALID_CONFIG")


async def test_a_job_decides_whether_and_how_pictures_are_drawn(site: JobSite) -> None:
    """C-S2-025."""
    plain, [file] = await completed(site, visualization={"show_labels": False, "confidence_display": False})
    full, _ = await completed(site)
    drawn = pixels((await site.console.get(f"/api/v1/files/{file}/annotated?job_id={plain}")).body)
    assert drawn[150:195, 200:300].max() < 40
    none, [other] = await completed(site, visualization={"enabled": False})
    for path in (f"jobs/{none}/visualization", f"files/{other}/annotated?job_id={none}"):
        response = await site.console.get(f"/api/v1/{path}")
        assert (response.status, response.code) == (404, "VISUALIZATION_DISABLED")
    assert full != plain


async def test_results_stay_when_the_pictures_are_gone(site: JobSite, tmp_path: Path) -> None:
    job, [file] = await completed(site)
    for path in (tmp_path / "frames").rglob("*.png"):
        path.unlink()
    for path_of in (f"files/{file}/original", f"files/{file}/annotated", f"jobs/{job}/visualization?format=base64"):
        response = await site.console.get(f"/api/v1/{path_of}")
        assert (response.status, response.code) == (410, "FILE_EXPIRED")
    assert (await site.console.get(f"/api/v1/jobs/{job}/results")).status == 200


async def test_a_file_that_failed_has_no_picture_but_a_reason(site: JobSite) -> None:
    sent = (await upload(site.console, ("a.jpg", picture(seed=1)), ("b.jpg", picture(seed=2)))).json["data"]
    job = (await site.ask(sent["upload_id"])).json["data"]["job_id"]
    frames = await site.publish()
    await site.answer(frames[0])
    await site.fail(frames[1])
    entries = (await site.console.get(f"/api/v1/jobs/{job}/visualization")).json["data"]["visualizations"]
    assert [entry["annotated_url"] is None for entry in entries] == [False, True]
    response = await site.console.get(f"/api/v1/files/{entries[1]['file_id']}/annotated?job_id={job}")
    assert (response.code, "ends early" in response.json["message"]) == ("RESULTS_NOT_READY", True)


async def test_pictures_that_slow_receivers_keep_in_memory_have_a_limit(site: JobSite, tmp_path: Path) -> None:
    """Beyond it others are asked to come later; when the pictures are sent, there is room again."""
    await completed(site)
    image = UploadedFile.of((await site.rows("SELECT * FROM uploaded_files"))[0]).image
    settings = ConsoleSettings(max_in_flight_bytes=1_024, max_file_bytes=1_024, max_body_bytes=1_024)
    drawer = PictureDrawer(FolderFrameStore(tmp_path / "frames"), settings)
    for _ in range(2):
        async with drawer.annotated(image, (), DrawOptions()) as first:
            assert len(first) > settings.max_in_flight_bytes
            with pytest.raises(OverloadedError, match=r"console\.max_in_flight_bytes"):
                async with drawer.thumbnail(image, (), DrawOptions()):
                    pass

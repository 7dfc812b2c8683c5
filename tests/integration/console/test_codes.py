"""Every error code of the tables of seed 2 is provoked: its status, its one body, and the page that explains it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from console.http.error_codes import CONSOLE_CODES
from console.settings import ConsoleSettings
from detectors.errors import InferenceError, ModelLoadError
from infra.database.pool import Database
from infra.errors import ImageCorruptError
from ingest.limits.settings import LimitsSettings
from tests.harnesses.job_site import JobSite, answer_of, job_site, letter_of
from tests.harnesses.uploads import picture, upload
from tests.servers.console import ConsoleResponse

pytestmark = pytest.mark.integration

_A_MINUTE = 12


@pytest.fixture
async def site(tmp_path: Path, database: Database) -> AsyncIterator[JobSite]:
    settings = ConsoleSettings(max_files=2, max_file_bytes=60_000, max_side_px=300)
    async with job_site(tmp_path, database, settings, limits=LimitsSettings(address_per_minute=_A_MINUTE)) as found:
        yield found


def sending(*files: bytes) -> Callable[[JobSite], Awaitable[ConsoleResponse]]:
    return lambda site: upload(site.console, *((f"{place}.jpg", data) for place, data in enumerate(files)))


def getting(path: str) -> Callable[[JobSite], Awaitable[ConsoleResponse]]:
    return lambda site: site.console.get(path)


async def results_of_a_queued_job(site: JobSite) -> ConsoleResponse:
    return await site.console.get(f"/api/v1/jobs/{await site.job(1)}/results")


async def wrong_threshold(site: JobSite) -> ConsoleResponse:
    return await site.ask(await site.upload(1), config={"confidence_threshold": 1.5})


async def unknown_upload(site: JobSite) -> ConsoleResponse:
    return await site.ask("upl_none")


async def without_key(site: JobSite) -> ConsoleResponse:
    return await site.console.get("/api/v1/jobs", key=None)


async def more_requests_than_a_minute_may_have(site: JobSite) -> ConsoleResponse:
    for _ in range(_A_MINUTE):
        assert (await site.console.get("/api/v1/jobs")).status == 200
    return await site.console.get("/api/v1/jobs")


@pytest.mark.parametrize(
    ("status", "code", "provoke"),
    [
        (400, "INVALID_FORMAT", sending(b"%PDF-1.7 " + bytes(100))),
        (400, "FILE_TOO_LARGE", sending(picture("TIFF", 200, 200))),
        (400, "TOO_MANY_FILES", sending(*[picture()] * 3)),
        (400, "INVALID_DIMENSIONS", sending(picture("PNG", 63, 64))),
        (400, "CORRUPTED_FILE", sending(picture()[:-200])),
        (400, "INVALID_CONFIG", wrong_threshold),
        (401, "UNAUTHORIZED", without_key),
        (404, "UPLOAD_NOT_FOUND", unknown_upload),
        (404, "JOB_NOT_FOUND", getting("/api/v1/jobs/job_none/status")),
        (404, "RESULTS_NOT_READY", results_of_a_queued_job),
        (429, "RATE_LIMIT_EXCEEDED", more_requests_than_a_minute_may_have),
    ],
)
async def test_codes_of_requests_have_their_status_body_and_page(
    site: JobSite, status: int, code: str, provoke: Callable[[JobSite], Awaitable[ConsoleResponse]]
) -> None:
    """C-S2-074, C-S2-075, C-S2-080, C-S2-081, C-S2-084, C-S2-085."""
    response = await provoke(site)
    body = response.json
    assert (response.status, response.code) == (status, code), body
    error = body["error"]
    assert body["status"] == "error"
    assert set(error) == {"code", "message", "details", "field", "timestamp", "request_id", "documentation_url"}
    assert (error["code"], error["request_id"]) == (code, response.headers["X-Request-ID"])
    assert {name: body[name] for name in ("message", "details", "timestamp", "request_id")} == {
        name: error[name] for name in ("message", "details", "timestamp", "request_id")
    }
    assert ("Retry-After" in response.headers) == (status == 429)
    await explained(site, error["documentation_url"], code)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("MODEL_LOAD_ERROR", ModelLoadError("small 2.0: no such version")),
        ("INFERENCE_ERROR", InferenceError("the engine failed")),
        ("FILE_ERROR", ImageCorruptError("the JPEG ends early")),
        ("STORAGE_ERROR", None),
    ],
)
async def test_codes_of_workers_are_in_the_error_of_the_failed_job(
    site: JobSite, code: str, error: Exception | None
) -> None:
    """C-S2-044, C-S2-082, C-S2-083."""
    job_id = await site.job(1)
    (frame,) = await site.publish()
    if error is None:
        await site.failures.write([letter_of(answer_of(frame), OSError("disk"), group="sink.postgres")])
    else:
        await site.fail(frame, error=error)
    job: dict[str, Any] = await site.status(job_id)
    assert (job["status"], job["error"]["code"]) == ("failed", code)
    assert job["error"]["message"] and job["failures"][0]["code"] == code
    assert CONSOLE_CODES[code].status.startswith("500")
    assert (await site.console.get(f"/api/v1/jobs/{job_id}/results")).code == "RESULTS_NOT_READY"
    await explained(site, f"/api/v1/errors/{code}", code)


async def explained(site: JobSite, address: str, code: str) -> None:
    # The page counts for the rate of its address as all do; that of one that asks too often is read from the codes.
    page = await site.console.get(address, key=None)
    if code != "RATE_LIMIT_EXCEEDED":
        assert (page.status, code in page.body.decode()) == (200, True)
        assert CONSOLE_CODES[code].meaning.partition("'")[0] in page.body.decode()

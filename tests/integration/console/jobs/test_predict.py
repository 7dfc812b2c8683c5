"""POST /api/v1/inference/predict: what a job is made of, and every request that is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from console.settings import ConsoleSettings
from infra.database.pool import Database
from tests.harnesses.job_site import JobSite, job_site

pytestmark = pytest.mark.integration

PATH = "/api/v1/inference/predict"
SEED_REQUEST: dict[str, Any] = {
    "confidence_threshold": 0.25,
    "iou_threshold": 0.45,
    "sahi": {"enabled": True, "slice_width": 640, "slice_height": 640, "overlap_ratio": 0.2},
    "symbolic_reasoning": {"enabled": False},
    "visualization": {"enabled": True, "show_labels": True, "confidence_display": True},
}


@pytest.fixture
async def site(tmp_path: Path, database: Database) -> AsyncIterator[JobSite]:
    async with job_site(tmp_path, database) as found:
        yield found


async def test_predict_with_the_options_of_the_seed_makes_a_job_of_all_files(site: JobSite) -> None:
    """C-S2-020, C-S2-022, C-S2-023, C-S2-025, C-S2-027, C-S2-034."""
    response = await site.ask(await site.upload(3), config=SEED_REQUEST)
    data = response.json["data"]
    assert (response.status, response.json["status"]) == (202, "accepted")
    assert response.json["message"] == "Inference job created with 3 files"
    assert (data["status"], data["file_count"]) == ("queued", 3)
    assert data["job_id"].startswith("job_") and len(data["job_id"]) == 20
    assert data["status_url"] == f"/api/v1/jobs/{data['job_id']}/status"
    assert data["created_at"] < data["estimated_completion"]
    assert (await site.status(data["job_id"]))["status"] == "queued"
    frames = await site.publish()
    assert len(frames) == 3
    options = frames[0].options
    assert (options.confidence, options.iou, options.mode) == (0.25, 0.45, "fixed")
    assert (options.tile_width, options.tile_height, options.overlap) == (640, 640, 0.2)
    assert (frames[0].model, frames[0].rules) == (None, None)


async def test_frames_of_a_job_ask_for_its_model_prompt_and_rules(site: JobSite) -> None:
    """C-S2-024, C-S2-026: rules are a text; a model is a name and a version of the store."""
    rules = "drop(X) :- label(X, bird).\n"
    config = {
        "model": {"name": "grounding", "version": "1.2.0"},
        "prompt": "bird . boat",
        "whole_frame": True,
        "sahi": {"slice_width": 512},
        "merging": {"method": "wbf", "metric": "ios", "threshold": 0.3},
        "symbolic_reasoning": {"rules_file": rules},
    }
    await site.ask(await site.upload(1), config=config)
    (frame,) = await site.publish()
    assert frame.model is not None and frame.rules is not None
    assert (frame.model.name, frame.model.version, frame.rules.text) == ("grounding", "1.2.0", rules)
    options = frame.options
    assert (options.prompt, options.whole_frame) == ("bird . boat", True)
    assert (options.tile_width, options.tile_height) == (512, 512)
    assert (options.merge_method, options.merge_metric, options.merge_threshold) == ("wbf", "ios", 0.3)


async def test_a_job_of_certain_files_has_only_those(site: JobSite) -> None:
    upload = await site.upload(4)
    chosen = [upload.file_ids[2], upload.file_ids[0]]
    assert (await site.ask(upload, file_ids=chosen)).json["data"]["file_count"] == 2
    names = {frame.original_filename for frame in await site.publish()}
    assert names == {"picture0.jpg", "picture2.jpg"}


@pytest.mark.parametrize(
    ("config", "field", "error"),
    [
        ({"confidence_threshold": 1.5}, "config.confidence_threshold", "Must be between 0.0 and 1.0"),
        ({"confidence_threshold": -0.1}, "config.confidence_threshold", "Must be between 0.0 and 1.0"),
        ({"confidence_threshold": "0.5"}, "config.confidence_threshold", "Must be a number, not text"),
        ({"confidence_threshold": True}, "config.confidence_threshold", "Must be a number"),
        ({"iou_threshold": 2}, "config.iou_threshold", "Must be between 0.0 and 1.0"),
        ({"sahi": {"slice_width": 255}}, "config.sahi.slice_width", "Must be between 256 and 2048"),
        ({"sahi": {"slice_height": 2049}}, "config.sahi.slice_height", "Must be between 256 and 2048"),
        ({"sahi": {"slice_height": 640.5}}, "config.sahi.slice_height", "Must be a whole number"),
        ({"sahi": {"overlap_ratio": 0.51}}, "config.sahi.overlap_ratio", "Must be between 0.0 and 0.5"),
        ({"sahi": {"enabled": 1}}, "config.sahi.enabled", "Must be true or false"),
        ({"sahi": True}, "config.sahi", "Must be an object"),
        ({"model": {"name": "small"}}, "config.model.version", "Must be given"),
        ({"prompt": ""}, "config.prompt", "Must not be empty"),
        ({"prompt": "a\0b"}, "config.prompt", "It holds a null character"),
        ({"prompt": "a" * 1_001}, "config.prompt", "Must have at most 1,000 characters"),
        ({"prompt": "\ud800"}, "config.prompt", "It holds half of a character"),
        ({"model": {"name": "\ud800", "version": "1"}}, "config.model.name", "It holds half of a character"),
        (
            {"symbolic_reasoning": {"rules_file": "rule(a, D, drop).\n% \ud800"}},
            "config.symbolic_reasoning.rules_file",
            "It holds half of a character",
        ),
        ({"treshold": 0.5}, "config.treshold", "Is not known; /docs describes the fields"),
    ],
)
async def test_wrong_options_are_refused_by_field(
    site: JobSite, config: dict[str, Any], field: str, error: str
) -> None:
    """C-S2-028, C-S2-029, C-S2-030, C-S2-031, C-S2-080."""
    response = await site.ask(await site.upload(1), config=config)
    assert (response.status, response.code) == (400, "INVALID_CONFIG")
    assert response.json["field"] == field
    assert response.json["message"] == f"Invalid configuration: {field}: {error}"


async def test_a_path_of_a_model_or_of_rules_is_refused(site: JobSite) -> None:
    """C-S2-026, C-S2-024."""
    upload = await site.upload(1)
    response = await site.ask(upload, config={"model_path": "/path/to/best.pt"})
    assert (response.code, response.json["field"]) == ("INVALID_CONFIG", "config.model_path")
    assert "name and version" in response.json["message"]
    for path in ("/path/to/rules.pl", "..\\rules.pl", "~/rules.pl", "unknown-rules"):
        response = await site.ask(upload, config={"symbolic_reasoning": {"rules_file": path}})
        assert (response.code, response.json["field"]) == ("INVALID_CONFIG", "config.symbolic_reasoning.rules_file")


async def test_every_wrong_field_is_named_at_once(site: JobSite) -> None:
    config = {"confidence_threshold": 7, "sahi": {"slice_width": 1}}
    body = (await site.ask(await site.upload(1), config=config, more=1)).json
    assert body["errors"] == [
        {"field": "config.confidence_threshold", "error": "Must be between 0.0 and 1.0"},
        {"field": "config.sahi.slice_width", "error": "Must be between 256 and 2048"},
        {"field": "more", "error": "Is not known; /docs describes the fields"},
    ]


async def test_uploads_of_others_and_unknown_ones_are_not_found(site: JobSite) -> None:
    """C-S2-032, C-S2-081."""
    await site.console.other_client("tablet")
    others = await site.upload(1, client="tablet")
    for upload_id in (others.upload_id, "upl_none", "../../etc/passwd", "x" * 200):
        response = await site.ask(upload_id)
        assert (response.status, response.code) == (404, "UPLOAD_NOT_FOUND"), upload_id


async def test_files_of_other_uploads_and_no_files_are_refused(site: JobSite) -> None:
    """C-S2-033."""
    mine, other = await site.upload(2), await site.upload(1)
    for file_ids in ([mine.file_ids[0], other.file_ids[0]], [], ["img_none"], [mine.file_ids[0]] * 2, "img_1", [1]):
        response = await site.ask(mine, file_ids=file_ids)
        assert (response.status, response.code) == (400, "INVALID_CONFIG"), file_ids
        assert response.json["field"].startswith("file_ids"), file_ids
    assert await site.rows("SELECT * FROM jobs") == []


@pytest.mark.parametrize("text", ["\0", "img_\0", "\ud800"])
@pytest.mark.parametrize("field", ["upload_id", "webhook_id", "file_ids.0"])
async def test_ids_that_no_database_can_hold_are_wrong_fields(site: JobSite, field: str, text: str) -> None:
    body: dict[str, Any] = {"upload_id": (await site.upload(1)).upload_id}
    body |= {"file_ids": [text]} if field == "file_ids.0" else {field: text}
    response = await site.console.post(PATH, json=body)
    assert (response.status, response.code, response.json["field"]) == (400, "INVALID_CONFIG", field)


async def test_files_of_expired_uploads_cannot_be_asked_for(site: JobSite) -> None:
    upload = await site.upload(1)
    async with site.database.acquire(writing=True) as connection:
        await connection.execute("UPDATE uploads SET expires_at = now()")
    response = await site.ask(upload)
    assert (response.status, response.code) == (404, "UPLOAD_NOT_FOUND")


async def test_bodies_that_are_not_json_are_refused(site: JobSite) -> None:
    """C-S2-021: a picture has its own way, and is not a job."""
    for kind in ("image/jpeg", "multipart/form-data; boundary=x", "text/plain", "application/x-www-form-urlencoded"):
        response = await site.console.post(PATH, data=b"--x", headers={"Content-Type": kind})
        assert (response.status, response.code) == (415, "UNSUPPORTED_MEDIA_TYPE"), kind
    for body in (b"{", b"[]", b'"text"', b"null", b"", b'{"upload_id": NaN}', b"[" * 100_000, b'"\xff"'):
        response = await site.console.post(PATH, data=body, headers={"Content-Type": "application/json"})
        assert (response.status, response.code) == (400, "INVALID_CONFIG"), body[:20]
    assert (await site.console.post(PATH, json={"upload_id": 7})).json["field"] == "upload_id"


async def test_a_client_has_a_limit_of_open_jobs(tmp_path: Path, database: Database) -> None:
    async with job_site(tmp_path, database, ConsoleSettings(max_open_jobs=2)) as site:
        upload = await site.upload(1)
        for _ in range(2):
            assert (await site.ask(upload)).status == 202
        response = await site.ask(upload)
        assert (response.status, response.code) == (409, "TOO_MANY_JOBS")
        await site.answer(*await site.publish())
        assert (await site.ask(upload)).status == 202

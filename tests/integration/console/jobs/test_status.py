"""GET /api/v1/jobs/{job_id}/status: what a client sees of a job from its beginning to its end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from detectors.errors import ModelLoadError
from infra.database.pool import Database
from schemas.events import RulesReport
from tests.harnesses.job_site import JobSite, answer_of, job_site, letter_of

pytestmark = pytest.mark.integration


@pytest.fixture
async def site(tmp_path: Path, database: Database) -> AsyncIterator[JobSite]:
    async with job_site(tmp_path, database) as found:
        yield found


async def test_a_job_goes_forward_and_is_complete_when_all_results_are_there(site: JobSite) -> None:
    """C-S2-040, C-S2-041, C-S2-042, C-S2-043, C-S2-046."""
    job_id = await site.job(4, config={"sahi": {"enabled": True}})
    queued = await site.status(job_id)
    assert (queued["status"], queued["progress"]["percentage"]) == ("queued", 0)
    assert "started_at" not in queued and "current_stage" not in queued["progress"]
    frames = await site.publish()
    started = await site.status(job_id)
    assert (started["status"], started["progress"]["processed_images"]) == ("processing", 0)
    await site.answer(frames[0], scores=(0.9, 0.7))
    running = await site.status(job_id)
    assert running["progress"]["percentage"] == 25
    assert running["progress"]["current_stage"] == "Running SAHI inference"
    assert running["progress"]["estimated_completion"] > running["updated_at"] > running["started_at"]
    await site.answer(*frames[1:], scores=())
    done = await site.status(job_id)
    assert (done["status"], done["progress"]["percentage"]) == ("completed", 100)
    assert done["summary"]["total_detections"] == 2
    assert done["summary"]["average_confidence"] == 0.8
    assert done["summary"]["processing_time_seconds"] > 0
    assert done["results_url"] == f"/api/v1/jobs/{job_id}/results"
    assert done["visualization_url"] == f"/api/v1/jobs/{job_id}/visualization"
    assert done["completed_at"] >= done["started_at"] >= done["created_at"]
    (event,) = await site.finished()
    assert (event.job_id, event.status, event.client_id) == (job_id, "completed", "desktop")
    assert (event.total_images, event.processed_images, event.total_detections) == (4, 4, 2)


async def test_a_job_with_some_failed_files_is_complete(site: JobSite) -> None:
    job_id = await site.job(3)
    frames = await site.publish()
    await site.fail(frames[0])
    await site.answer(*frames[1:])
    done = await site.status(job_id)
    assert (done["status"], done["progress"]["failed_images"]) == ("completed", 1)
    (failed,) = await site.rows("SELECT * FROM job_files WHERE status = 'failed'")
    assert (failed["error_code"], failed["error_message"]) == ("FILE_ERROR", "the JPEG ends early")
    (event,) = await site.finished()
    assert (event.failed_images, event.error_code) == (1, None)


async def test_a_job_without_any_result_has_failed_with_the_error_of_its_files(site: JobSite) -> None:
    """C-S2-044, C-S2-082: the places of the operator's files are not shown."""
    job_id = await site.job(2)
    error = ModelLoadError("small 2.0 at /var/lib/standgale/models/small/2.0/model.yaml: no such version")
    await site.fail(*await site.publish(), error=error)
    failed = await site.status(job_id)
    assert failed["status"] == "failed"
    assert failed["failed_at"] >= failed["started_at"]
    assert failed["error"] == {
        "code": "MODEL_LOAD_ERROR",
        "message": "small 2.0 at …: no such version",
        "details": "2 files failed",
    }
    (event,) = await site.finished()
    assert (event.status, event.error_code) == ("failed", "MODEL_LOAD_ERROR")


async def test_a_job_whose_files_failed_for_different_reasons_lists_them(site: JobSite) -> None:
    job_id = await site.job(3)
    frames = await site.publish()
    await site.fail(*frames[:2])
    await site.fail(frames[2], error=ModelLoadError("no such version"))
    error = (await site.status(job_id))["error"]
    assert error["code"] == "INFERENCE_ERROR"
    assert error["details"] == "2 × FILE_ERROR, 1 × MODEL_LOAD_ERROR; see each file"


async def test_results_that_cannot_be_stored_fail_their_files(site: JobSite) -> None:
    """C-S2-082: STORAGE_ERROR; a live stream that could not take a result changes nothing."""
    job_id = await site.job(1)
    (frame,) = await site.publish()
    made = answer_of(frame)
    await site.failures.write([letter_of(made, ValueError("x"), group="sink.sse")])
    assert (await site.status(job_id))["status"] == "processing"
    await site.failures.write([letter_of(made, ValueError("secret"), group="sink.postgres")])
    error = (await site.status(job_id))["error"]
    assert error["code"] == "STORAGE_ERROR"
    assert "secret" not in error["message"]


async def test_rules_that_give_no_rulings_are_a_warning(site: JobSite) -> None:
    job_id = await site.job(3, config={"symbolic_reasoning": {"rules_file": "rule(again, D, drop) :- again."}})
    frames = await site.publish()
    report = RulesReport(file="job", sha256="0" * 64, engine="", elapsed_ms=1, problem="line 1, rule again: stopped")
    await site.answer(*frames[:2], rules=report)
    await site.answer(frames[2], rules=report.model_copy(update={"problem": None}))
    done = await site.status(job_id)
    assert (done["status"], done["summary"]["total_detections"]) == ("completed", 3)
    assert done["warnings"] == [
        "the rules gave no rulings for 2 files, which are as the model found them: line 1, rule again: stopped"
    ]
    results = (await site.console.get(f"/api/v1/jobs/{job_id}/results")).json["data"]["results"]
    assert sorted(str(each["rules"]["problem"]) for each in results) == ["None", *["line 1, rule again: stopped"] * 2]


async def test_progress_of_a_hundred_files_with_five_broken_ones_never_falls(site: JobSite) -> None:
    job_id = await site.job(100)
    seen: list[dict[str, Any]] = []
    broken = {f"picture{number}.jpg" for number in (3, 20, 21, 77, 99)}
    while frames := await site.publish():
        for frame in frames:
            await (site.fail(frame) if frame.original_filename in broken else site.answer(frame))
            seen.append(await site.status(job_id))
    progress = [each["progress"] for each in seen]
    assert [each["processed_images"] for each in progress] == list(range(1, 101))
    assert [each["percentage"] for each in progress] == list(range(1, 101))
    assert [each["status"] for each in seen] == ["processing"] * 99 + ["completed"]
    assert {each["filename"] for each in seen[-1]["failures"]} == broken
    results = (await site.console.get(f"/api/v1/jobs/{job_id}/results")).json["data"]["results"]
    assert sum("error" not in each for each in results) == 95


async def test_results_and_failures_written_again_count_once(site: JobSite) -> None:
    job_id = await site.job(3)
    frames = await site.publish()
    await site.answer(frames[0])
    await site.answer(frames[0], frames[0])
    await site.fail(frames[0])
    assert (await site.status(job_id))["progress"]["processed_images"] == 1
    await site.fail(frames[1])
    await site.answer(frames[1])
    await site.fail(frames[1], frames[1])
    progress = (await site.status(job_id))["progress"]
    assert (progress["processed_images"], progress["failed_images"]) == (2, 1)
    await site.answer(*frames)
    await site.answer(*frames)
    assert (await site.status(job_id))["status"] == "completed"
    assert len(await site.finished()) == 1


async def test_equal_pictures_of_a_job_count_each(site: JobSite) -> None:
    upload = await site.upload(40, equal=True)
    job_id = (await site.ask(upload)).json["data"]["job_id"]
    while frames := await site.publish():
        await site.answer(*frames)
    done = await site.status(job_id)
    assert (done["status"], done["progress"]["processed_images"]) == ("completed", 40)


async def test_jobs_of_others_and_unknown_ones_are_not_found(site: JobSite) -> None:
    """C-S2-045, C-S2-081."""
    job_id, key = await site.job(1), await site.console.other_client("tablet")
    for path, used in ((job_id, key), ("job_none", ""), ("..%2f..", ""), ("x" * 300, "")):
        response = await site.console.get(f"/api/v1/jobs/{path}/status", key=used)
        assert response.status == 404, path
    assert (await site.console.get(f"/api/v1/jobs/{job_id}/status", key=key)).code == "JOB_NOT_FOUND"


async def test_a_result_before_the_mark_published_counts(site: JobSite) -> None:
    """The publisher is killed after the publish: its transaction is lost, and the answer comes."""
    job_id = await site.job(2)
    frames = await site.publish()
    async with site.database.acquire(writing=True) as connection:
        await connection.execute("UPDATE job_files SET status = 'queued', published_at = NULL")
        await connection.execute("UPDATE jobs SET status = 'queued', started_at = NULL")
    await site.answer(frames[0])
    running = await site.status(job_id)
    assert (running["status"], running["progress"]["processed_images"]) == ("processing", 1)
    assert [frame.frame_id for frame in await site.publish()] == [frames[1].frame_id]
    await site.answer(frames[1])
    assert (await site.status(job_id))["status"] == "completed"

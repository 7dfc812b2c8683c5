"""Inference jobs over HTTP: what is asked for, who sees it, uploads of pictures, and the call-back."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from console.inference_jobs.records import PURPOSE
from console.inference_jobs.retention import InferenceImagesRetention
from console.objects import JobObjects
from console.settings import ConsoleSettings
from infra.database.pool import Database
from infra.deploy.s3 import S3Server
from infra.encryption.box import SecretBox
from infra.failure.settings import RetrySettings
from infra.storage.s3_address import S3Address
from tests.harnesses.inference import jobs_settings
from tests.harnesses.uploads import form, picture
from tests.servers.console import ConsoleResponse, RunningConsole, running_console

pytestmark = pytest.mark.integration

PATH = "/api/v1/test_inference/inference"
BUCKET = "s3://standgale"
COLUMNS = {
    *("id", "training_job_id", "checkpoint_path", "inference_type", "input_data", "status", "error_message"),
    *("total_images", "total_inference_time_ms", "avg_inference_time_ms", "created_at", "started_at", "completed_at"),
}
RESULT = {
    "image_path": f"{BUCKET}/pictures/a.jpg",
    "predictions": [{"class_id": 0, "class_name": "person", "confidence": 0.85, "bbox": [100, 200, 300, 400]}],
    "inference_time_ms": 218.5,
}
COMPLETED = {
    "status": "completed",
    "total_images": 2,
    "total_inference_time_ms": 468.1,
    "avg_inference_time_ms": 234.05,
    "results": [RESULT, {**RESULT, "image_path": f"{BUCKET}/pictures/b.jpg", "predictions": []}],
}


@pytest.fixture
async def console(tmp_path: Path, database: Database, s3_server: S3Server) -> AsyncIterator[RunningConsole]:
    settings = ConsoleSettings(max_files=3, max_body_bytes=20_000, max_open_jobs=3, max_open_uploads=2)
    inference = jobs_settings(s3_server, max_results_bytes=100_000)
    async with running_console(tmp_path, database, settings=settings, inference=inference) as found:
        yield found


def asked(**changes: Any) -> dict[str, Any]:
    """The request of the seed's page."""
    fields = {
        "training_job_id": 23,
        "checkpoint_path": f"{BUCKET}/checkpoints/23/best.pt",
        "inference_type": "batch",
        "input_data": {
            "image_paths": [f"{BUCKET}/pictures/"],
            "confidence_threshold": 0.25,
            "iou_threshold": 0.45,
            "max_detections": 100,
        },
    }
    return fields | changes


def paths(*found: str, **more: Any) -> dict[str, Any]:
    return {"image_paths": list(found), **more}


async def add(console: RunningConsole, **changes: Any) -> int:
    response = await console.post(f"{PATH}/jobs", json=asked(**changes))
    assert response.status == 201, response.body
    return int(response.json["id"])


async def token_of(console: RunningConsole, job: int) -> str:
    """The secret that the process of the job gets."""
    async with console.database.acquire() as connection:
        data = await connection.fetchval("SELECT callback_token FROM inference_jobs WHERE id = $1", job)
    return SecretBox([bytes(32)]).decrypt(data, PURPOSE)


async def post_results(console: RunningConsole, job: int, body: Any, token: str | None) -> ConsoleResponse:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return await console.request("POST", f"{PATH}/{job}/results", key=None, json=body, headers=headers)


async def test_a_job_is_kept_and_shown_with_the_columns_of_its_table(console: RunningConsole) -> None:
    """C-S4-040, C-S4-042, C-S4-044, C-S4-050; as text/plain too, which a browser's fetch says of a text."""
    body = json.dumps(asked())
    for content_type in ("application/json", "text/plain;charset=UTF-8"):
        response = await console.post(f"{PATH}/jobs", data=body, headers={"Content-Type": content_type})
        assert response.status == 201, response.body
        assert isinstance(response.json["id"], int)
    job = (await console.get(f"{PATH}/jobs/{response.json['id']}")).json
    assert set(job) == COLUMNS
    assert (job["status"], job["training_job_id"], job["total_images"]) == ("pending", 23, 0)
    assert job["input_data"] == asked()["input_data"]
    assert (job["started_at"], job["completed_at"], job["error_message"]) == (None, None, None)
    assert (await console.get(f"{PATH}/jobs/{job['id']}/results")).json == []


async def test_the_tables_have_the_columns_of_the_seed(console: RunningConsole) -> None:
    """C-S4-050, C-S4-051: times have a zone, floats are double precision."""
    expected = {
        "inference_jobs": {
            **dict.fromkeys(("id", "training_job_id", "total_images"), "integer"),
            **dict.fromkeys(("total_inference_time_ms", "avg_inference_time_ms"), "double precision"),
            **dict.fromkeys(("created_at", "started_at", "completed_at"), "timestamp with time zone"),
            "checkpoint_path": "character varying 500",
            "inference_type": "character varying 20",
            "status": "character varying 20",
            "input_data": "json",
            "error_message": "text",
        },
        "inference_results": {
            **dict.fromkeys(("id", "inference_job_id", "num_detections"), "integer"),
            "image_path": "character varying 500",
            "image_name": "character varying 200",
            "predictions": "json",
            "inference_time_ms": "double precision",
            "created_at": "timestamp with time zone",
        },
    }
    query = """
        SELECT column_name, concat_ws(' ', data_type, character_maximum_length) AS type
        FROM information_schema.columns WHERE table_name = $1
    """
    async with console.database.acquire() as connection:
        for table, columns in expected.items():
            found = {row["column_name"]: row["type"] for row in await connection.fetch(query, table)}
            assert {name: found.get(name) for name in columns} == columns


async def test_a_model_of_the_store_needs_no_training_job(console: RunningConsole) -> None:
    """C-S4-041."""
    job = await add(
        console, training_job_id=None, checkpoint_path="model:birds@1.0.0", input_data=paths(f"{BUCKET}/a/")
    )
    found = (await console.get(f"{PATH}/jobs/{job}")).json
    assert found["training_job_id"] is None
    assert found["input_data"] == paths(
        f"{BUCKET}/a/", confidence_threshold=0.25, iou_threshold=0.45, max_detections=100
    )


@pytest.mark.parametrize(
    ("changes", "status", "field"),
    [
        ({"checkpoint_path": "/etc/passwd"}, 400, "checkpoint_path"),
        ({"checkpoint_path": "model:birds"}, 400, "checkpoint_path"),
        ({"checkpoint_path": "s3://secrets/model.onnx"}, 403, "checkpoint_path"),
        ({"inference_type": "quick"}, 400, "inference_type"),
        ({"inference_type": "single"}, 400, "body"),
        ({"training_job_id": "23"}, 400, "training_job_id"),
        ({"input_data": paths()}, 400, "input_data.image_paths"),
        ({"input_data": paths("http://10.0.0.1/a.jpg")}, 400, "input_data.image_paths.0"),
        ({"input_data": paths(f"{BUCKET}/a/../b.jpg")}, 400, "input_data.image_paths.0"),
        ({"input_data": paths(f"{BUCKET}/a/", confidence_threshold="0.5")}, 400, "input_data.confidence_threshold"),
        ({"input_data": paths(f"{BUCKET}/a/", max_detections=0)}, 400, "input_data.max_detections"),
        ({"input_data": paths("s3://secrets/a.jpg")}, 403, "input_data.image_paths"),
        ({"input_data": paths(f"{BUCKET}/")}, 403, "input_data.image_paths"),
        ({"input_data": paths(f"{BUCKET}/inference/")}, 403, "input_data.image_paths"),
        ({"input_data": paths(f"{BUCKET}/inference/999999/")}, 403, "input_data.image_paths"),
    ],
)
async def test_a_wrong_request_names_its_field(
    console: RunningConsole, changes: dict[str, Any], status: int, field: str
) -> None:
    response = await console.post(f"{PATH}/jobs", json=asked(**changes))
    assert (response.status, response.json["error"]["field"]) == (status, field), response.body


async def test_a_client_sees_its_own_jobs_and_has_so_many(console: RunningConsole) -> None:
    """C-S4-043: unknown is 404, and that of another client is unknown."""
    jobs = [await add(console) for _ in range(3)]
    assert (await console.post(f"{PATH}/jobs", json=asked())).code == "TOO_MANY_JOBS"
    other = await console.other_client()
    for path in (f"{PATH}/jobs/{jobs[0]}", f"{PATH}/jobs/{jobs[0]}/results"):
        assert (await console.get(path)).status == 200
        response = await console.get(path, key=other)
        assert (response.status, response.code) == (404, "INFERENCE_JOB_NOT_FOUND")
    assert (await console.get(f"{PATH}/jobs/{jobs[0]}", key=None)).status == 401
    assert (await console.post("/test_inference/inference/quick", json={})).status == 404


async def test_the_call_back_ends_a_job_once(console: RunningConsole) -> None:
    """C-S4-030, C-S4-031, C-S4-032, C-S4-033, C-S4-043, C-S4-051."""
    job = await add(console)
    token = await token_of(console, job)
    for changed in (True, False):
        response = await post_results(console, job, COMPLETED, token)
        assert (response.status, response.json) == (200, {"id": job, "status": "completed", "changed": changed})
    found = (await console.get(f"{PATH}/jobs/{job}")).json
    assert (found["status"], found["total_images"]) == ("completed", 2)
    assert found["total_inference_time_ms"] == 468.1
    assert found["avg_inference_time_ms"] == pytest.approx(234.05)
    assert found["completed_at"] is not None
    first, second = (await console.get(f"{PATH}/jobs/{job}/results")).json
    assert (first["image_path"], first["image_name"]) == (RESULT["image_path"], "a.jpg")
    assert (first["predictions"], first["num_detections"]) == (RESULT["predictions"], 1)
    assert (second["num_detections"], second["inference_job_id"]) == (0, job)
    page = (await console.get(f"{PATH}/jobs/{job}/results?after={first['id']}&page_size=1")).json
    assert page == [second]
    late = await post_results(console, job, {"status": "failed", "error_message": "late"}, token)
    assert (late.status, late.code) == (409, "INFERENCE_JOB_ENDED")


async def test_only_the_process_of_a_job_may_post_for_it(console: RunningConsole) -> None:
    """C-S4-034."""
    job, other = await add(console), await add(console)
    for token in (None, "guessed", await token_of(console, other)):
        response = await post_results(console, job, COMPLETED, token)
        assert response.status == 401
    unknown = await post_results(console, 999_999, COMPLETED, "guessed")
    assert (unknown.status, unknown.code) == (404, "INFERENCE_JOB_NOT_FOUND")
    assert (await console.get(f"{PATH}/jobs/{job}")).json["status"] == "pending"


async def test_a_failing_job_has_its_message(console: RunningConsole) -> None:
    """C-S4-036."""
    job = await add(console)
    body = {"status": "failed", "error_message": "no GPU\x00 here"}
    assert (await post_results(console, job, body, await token_of(console, job))).status == 200
    found = (await console.get(f"{PATH}/jobs/{job}")).json
    assert (found["status"], found["error_message"]) == ("failed", "no GPU here")


@pytest.mark.parametrize(
    "body",
    [
        {"status": "completed", "results": []},
        {**COMPLETED, "total_images": 3},
        {"status": "completed", "results": [{**RESULT, "predictions": [{"class_id": -1}]}]},
        {"status": "done"},
    ],
)
async def test_a_wrong_call_back_changes_nothing(console: RunningConsole, body: dict[str, Any]) -> None:
    job = await add(console)
    response = await post_results(console, job, body, await token_of(console, job))
    assert (response.status, response.code) == (400, "INVALID_CONFIG")
    assert (await console.get(f"{PATH}/jobs/{job}")).json["status"] == "pending"


async def test_results_may_be_larger_than_other_bodies(console: RunningConsole) -> None:
    job = await add(console)
    token = await token_of(console, job)
    many = {"status": "completed", "results": [RESULT] * 300}
    assert (await post_results(console, job, {**many, "results": [RESULT] * 900}, token)).code == "BODY_TOO_LARGE"
    assert (await post_results(console, job, many, token)).status == 200
    large = await console.post(f"{PATH}/jobs", data=b" " * 30_000, headers={"Content-Type": "application/json"})
    assert large.code == "BODY_TOO_LARGE"


async def upload(console: RunningConsole, *files: tuple[str, bytes], **options: Any) -> ConsoleResponse:
    return await console.post(f"{PATH}/images", data=form(files), **options)


async def test_uploaded_pictures_give_a_job_the_id_of_their_folder(console: RunningConsole, tmp_path: Path) -> None:
    """C-S4-017, C-S4-045."""
    files = [("a.jpg", picture()), ("a.jpg", picture(seed=2)), ("../ü b.exe", picture("PNG"))]
    response = await upload(console, *files)
    assert response.status == 201, response.body
    body = response.json
    folder = f"{BUCKET}/inference/{body['inference_job_id']}/"
    assert body["folder"] == folder
    assert body["image_paths"] == [f"{folder}a.jpg", f"{folder}a-2.jpg", f"{folder}ü b.png"]
    objects = JobObjects(console.parts.objects.settings)
    for address, (_, data) in zip(body["image_paths"], files, strict=True):
        async with objects.open().local(S3Address.parse(address), tmp_path, 1_000_000) as path:
            assert path.read_bytes() == data
    await objects.close()
    other = await console.other_client()
    foreign = await console.post(f"{PATH}/jobs", json=asked(input_data=paths(*body["image_paths"])), key=other)
    assert (foreign.status, foreign.code) == (403, "PATH_REFUSED")
    assert await add(console, input_data=paths(*body["image_paths"])) == body["inference_job_id"]
    assert await add(console, input_data=paths(folder)) != body["inference_job_id"]


async def test_an_upload_of_what_is_no_picture_names_the_file(console: RunningConsole) -> None:
    for _ in range(3):
        response = await upload(console, ("b.jpg", b"no picture"), ("a.jpg", picture()))
        assert response.status == 400
        assert [each["filename"] for each in response.json["errors"]] == ["b.jpg"]
    many = await upload(console, *[(f"{number}.jpg", picture()) for number in range(4)])
    assert many.code == "TOO_MANY_FILES"
    assert (await upload(console, ("a.jpg", picture()))).status == 201
    assert (await upload(console, ("a.jpg", picture()))).code == "TOO_MANY_UPLOADS"
    async with console.database.acquire() as connection:
        left = await connection.fetch("SELECT expires_at - now() AS left FROM inference_uploads ORDER BY id")
    # What is refused after a picture was stored goes soon, a complete upload after some days.
    assert [round(row["left"] / timedelta(hours=1)) for row in left] == [0, 168]
    no_form = await console.post(f"{PATH}/images", data=b"x", headers={"Content-Type": "image/jpeg"})
    assert no_form.status == 400


async def test_pictures_that_no_job_used_are_removed(console: RunningConsole, tmp_path: Path) -> None:
    body = (await upload(console, ("a.jpg", picture()))).json
    used = (await upload(console, ("a.jpg", picture()))).json
    await add(console, input_data=paths(used["folder"]))
    objects = JobObjects(console.parts.objects.settings)
    retention = InferenceImagesRetention(console.database, objects, RetrySettings())
    assert await retention.remove_some() == 0
    async with console.database.acquire() as connection:
        await connection.execute("UPDATE inference_uploads SET expires_at = now() - $1::interval", timedelta(hours=1))
    assert await retention.remove_some() == 1
    left = [each async for each in objects.open().listed(S3Address.parse(body["folder"]))]
    kept = [each async for each in objects.open().listed(S3Address.parse(used["folder"]))]
    assert (left, len(kept)) == ([], 1)
    await objects.close()


async def test_half_a_call_back_changes_nothing(console: RunningConsole) -> None:
    job = await add(console)
    headers = {"Authorization": f"Bearer {await token_of(console, job)}", "Content-Type": "application/json"}
    cut = json.dumps(COMPLETED)[:-20]
    response = await console.post(f"{PATH}/{job}/results", key=None, data=cut, headers=headers)
    assert response.status == 400
    assert (await console.get(f"{PATH}/jobs/{job}")).json["status"] == "pending"


async def test_nothing_of_a_call_back_is_read_before_its_token_is_known(console: RunningConsole) -> None:
    """C-S4-034: a caller without the token cannot send more than a few bytes, of whatever type."""
    job = await add(console)
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(1_000):
            read += 65_536
            yield bytes(65_536)

    for token, status in (("guessed", 401), (await token_of(console, job), 413)):
        for content_type in ("application/json", "application/octet-stream"):
            headers = {"Authorization": f"Bearer {token}", "Content-Type": content_type}
            response = await console.post(f"{PATH}/{job}/results", key=None, data=endless(), headers=headers)
            assert response.status == status
    assert read < 20_000_000

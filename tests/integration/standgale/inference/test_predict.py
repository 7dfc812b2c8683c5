"""`standgale predict` as a process: what it reads, writes and posts, and how it fails."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infra.deploy.s3 import S3Server
from standgale.testing.graphs import write_model
from tests.harnesses.inference import BOX, Site, predict, receiver, scene, site

pytestmark = pytest.mark.integration


@pytest.fixture
async def place(s3_server: S3Server) -> AsyncIterator[Site]:
    async with site(s3_server) as found:
        yield found


async def test_pictures_of_a_prefix_become_results_in_s3_and_in_the_call_back(place: Site, tmp_path: Path) -> None:
    """C-S4-003, C-S4-004, C-S4-005, C-S4-008, C-S4-009, C-S4-030, C-S4-031, C-S4-033, C-S4-034."""
    images, model = await place.put_pictures(), await place.put_model(tmp_path)
    await place.put("pictures/notes.txt", b"no picture")
    async with receiver() as hook:
        variables = place.variables(
            IMAGE_PATHS=images, CHECKPOINT_PATH=model, CALLBACK_URL=hook.url, CALLBACK_TOKEN="s3cret-of-job"
        )
        status, output = await predict(tmp_path, variables)
    assert status == 0, output
    assert "s3cret" not in output
    [body] = hook.posted
    assert hook.tokens == ["Bearer s3cret-of-job"]
    assert (body["status"], body["total_images"]) == ("completed", 2)
    assert [each["image_path"] for each in body["results"]] == [f"{images}img_000.png", f"{images}img_001.png"]
    [found] = body["results"][0]["predictions"]
    assert (found["class_id"], found["class_name"]) == (0, "red")
    assert found["confidence"] > 0.5
    assert found["bbox"] == pytest.approx(BOX, abs=2.0)
    assert body["results"][1]["predictions"] == []
    times = [each["inference_time_ms"] for each in body["results"]]
    assert body["total_inference_time_ms"] == pytest.approx(sum(times), abs=0.01)
    assert body["avg_inference_time_ms"] == pytest.approx(sum(times) / 2, abs=0.01)
    assert await place.read(f"{place.variables()['OUTPUT_PATH']}results.json", tmp_path) == body


async def test_a_call_back_that_fails_for_now_is_posted_again_until_it_is_taken(place: Site, tmp_path: Path) -> None:
    """C-S4-035; pictures by a list, a broken one among them, and a card's folder as the model."""
    paths = [
        await place.put("a.png", scene()),
        await place.put("b.png", b"\x89PNG broken"),
        await place.put("c.PNG", scene()),
    ]
    await place.put_model(tmp_path)
    async with receiver(503, 500, 429) as hook:
        variables = place.variables(
            IMAGE_PATHS=str(paths).replace("'", '"'),
            CHECKPOINT_PATH=str(place.folder.beside("model")),
            CALLBACK_URL=hook.url,
        )
        status, output = await predict(tmp_path, variables)
    assert status == 0, output
    assert len(hook.posted) == 4
    assert all(body == hook.posted[0] for body in hook.posted)
    body = hook.posted[-1]
    assert [bool(each["predictions"]) for each in body["results"]] == [True, False, True]
    assert "error_message" in body["results"][1]
    assert body["error_message"].startswith(f"1 of 3 pictures have no result; the first: {paths[1]}")
    assert "/tmp/" not in body["error_message"]


async def test_missing_and_wrong_variables_are_named_before_any_work(place: Site, tmp_path: Path) -> None:
    """C-S4-007, C-S4-036."""
    async with receiver() as hook:
        variables = place.variables(
            CALLBACK_URL=hook.url, CHECKPOINT_PATH="model:x@1", CONFIDENCE_THRESHOLD="high", MAX_DETECTIONS="0"
        )
        status, output = await predict(tmp_path, variables)
    assert status == 2
    [body] = hook.posted
    assert body["status"] == "failed"
    for name in ("IMAGE_PATHS", "CONFIDENCE_THRESHOLD", "MAX_DETECTIONS"):
        assert name in output
        assert name in body["error_message"]


async def test_a_refused_call_back_is_an_error(place: Site, tmp_path: Path) -> None:
    """C-S4-008: results are written, yet the status is not 0; the model is found beside a .pt file."""
    images, model = await place.put_pictures(1), await place.put_model(tmp_path)
    await place.put("model/model.pt", b"PK\x03\x04")
    async with receiver(401, 401) as hook:
        variables = place.variables(
            IMAGE_PATHS=images, CHECKPOINT_PATH=model.replace(".onnx", ".pt"), CALLBACK_URL=hook.url
        )
        status, output = await predict(tmp_path, variables)
    assert status == 2, output
    assert "NOT_DELIVERED" in output
    assert [each["status"] for each in hook.posted] == ["completed", "failed"]
    written = await place.read(f"{place.variables()['OUTPUT_PATH']}results.json", tmp_path)
    assert written["status"] == "completed"


async def test_a_foreign_pt_file_is_refused_with_what_to_do(place: Site, tmp_path: Path) -> None:
    """C-S4-006; no pickle is loaded, and nothing is written."""
    images = await place.put_pictures(1)
    async with receiver() as hook:
        variables = place.variables(
            IMAGE_PATHS=images, CHECKPOINT_PATH=await place.put("best.pt", b"\x80\x02}q\x00."), CALLBACK_URL=hook.url
        )
        status, output = await predict(tmp_path, variables)
    assert status == 2
    assert "ONNX" in output
    [body] = hook.posted
    assert (body["status"], "best.onnx" in body["error_message"]) == ("failed", True)


async def test_files_of_this_machine_need_no_s3(tmp_path: Path) -> None:
    """C-S4-006: an ONNX file without a card tells of itself; the same command works without a bucket, and without the
    client of S3."""
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(scene())
    card = write_model(tmp_path / "model")
    card.unlink()
    async with receiver() as hook:
        status, output = await predict(
            tmp_path,
            {
                "JOB_ID": "7",
                "IMAGE_PATHS": str(tmp_path / "pictures"),
                "CHECKPOINT_PATH": str(card.parent / "model.onnx"),
                "OUTPUT_PATH": str(tmp_path / "out"),
                "CALLBACK_URL": hook.url,
                **without_s3(tmp_path),
            },
        )
    assert status == 0, output
    assert (tmp_path / "out" / "results.json").is_file()
    assert hook.posted[0]["total_images"] == 1


async def test_addresses_in_s3_without_its_client_name_the_extra(tmp_path: Path) -> None:
    """It ended with a traceback, and the call-back came never."""
    async with receiver() as hook:
        status, output = await predict(
            tmp_path,
            {
                "JOB_ID": "7",
                "IMAGE_PATHS": "s3://bucket/pictures/",
                "CHECKPOINT_PATH": "s3://bucket/model.onnx",
                "OUTPUT_PATH": str(tmp_path / "out"),
                "CALLBACK_URL": hook.url,
                **without_s3(tmp_path),
            },
        )
    assert status == 2
    assert "Traceback" not in output
    assert "NOT_INSTALLED: IMAGE_PATHS, CHECKPOINT_PATH: S3 needs" in output
    [body] = hook.posted
    assert body["status"] == "failed"
    assert "install the extra s3" in body["error_message"]


def without_s3(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a process that finds no client of S3."""
    patch = tmp_path / "patch"
    patch.mkdir()
    (patch / "sitecustomize.py").write_text(
        "import sys\nsys.modules.update(dict.fromkeys(('aiobotocore', 'botocore')))\n"
    )
    return {"PYTHONPATH": os.pathsep.join((str(patch), os.environ.get("PYTHONPATH", "")))}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("IMAGE_PATHS", "s3://nobucket/a/", "correct the name of the bucket"),
        ("IMAGE_PATHS", "s3://standgale/nothing-is-here/", "there are no pictures"),
        ("AWS_SECRET_ACCESS_KEY", "wrong", "check AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        ("CHECKPOINT_PATH", "s3://standgale/none/m.onnx", "CHECKPOINT_PATH: s3://standgale/none/m.onnx: there is no"),
        ("CHECKPOINT_PATH", "GARBAGE", "model.onnx is not an ONNX file, or is damaged"),
    ],
)
async def test_a_failed_job_names_its_variable_and_the_reason(
    place: Site, tmp_path: Path, name: str, value: str, said: str
) -> None:
    """C-S4-036."""
    images, model = await place.put_pictures(1), await place.put_model(tmp_path)
    garbage = await place.put("garbage/model.onnx", b"garbage")
    async with receiver() as hook:
        variables = place.variables(IMAGE_PATHS=images, CHECKPOINT_PATH=model, CALLBACK_URL=hook.url)
        wrong = {name: garbage if value == "GARBAGE" else value}
        status, output = await predict(tmp_path, {**variables, **wrong})
    assert status == 2
    [body] = hook.posted
    assert (body["status"], said in body["error_message"]) == ("failed", True), body
    assert "standgale-inference-" not in body["error_message"]
    assert "Traceback" not in output

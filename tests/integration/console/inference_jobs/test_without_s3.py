"""Inference jobs on a server that cannot reach S3: what a request says about it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from console.inference_settings import InferenceJobsSettings
from infra.database.pool import Database
from tests.harnesses.uploads import form, picture
from tests.servers.console import running_console

pytestmark = pytest.mark.integration

PATH = "/api/v1/test_inference/inference"
ASKED = {
    "checkpoint_path": "model:birds@1.0.0",
    "inference_type": "batch",
    "input_data": {"image_paths": ["s3://training-checkpoints/pictures/"]},
}


async def test_without_the_extra_uploads_and_jobs_name_it(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The import failed in the middle of the request, which was 500; a job failed when its process started."""
    for library in ("aiobotocore", "botocore"):
        monkeypatch.setitem(sys.modules, library, None)
    async with running_console(tmp_path, database) as console:
        uploaded = await console.post(f"{PATH}/images", data=form([("a.jpg", picture())]))
        asked = await console.post(f"{PATH}/jobs", json=ASKED)
        for response in (uploaded, asked):
            assert (response.status, response.code) == (501, "NOT_INSTALLED")
            assert "pip install -e '.[s3]'" in response.json["details"]
        explained = await console.get(response.json["documentation_url"])
        assert explained.status == 200


async def test_without_the_extra_jobs_that_run_elsewhere_are_taken(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "aiobotocore", None)
    elsewhere = InferenceJobsSettings(run="none")
    async with running_console(tmp_path, database, inference=elsewhere) as console:
        assert (await console.post(f"{PATH}/jobs", json=ASKED)).status == 201


async def test_without_credentials_the_operator_is_asked_to_correct_that(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The details said only that the same request should be sent again."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    inference = InferenceJobsSettings(endpoint_url="http://127.0.0.1:1")
    async with running_console(tmp_path, database, inference=inference) as console:
        response = await console.post(f"{PATH}/images", data=form([("a.jpg", picture())]))
    assert (response.status, response.code) == (503, "INVALID_SETTING")
    assert response.json["details"].startswith("Tell the operator: the log of the service says")
    assert response.headers["Retry-After"]

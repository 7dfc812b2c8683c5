"""The environment of an inference job's process: the settings that it needs, and no other secrets."""

from __future__ import annotations

from pathlib import Path

from console.inference_jobs.process import s3_variables
from console.inference_settings import InferenceJobsSettings
from standgale.inference.variables import read_variables
from standgale.services.inference_jobs import process_environment
from standgale.settings import Settings, load_settings


def test_a_process_has_the_settings_that_it_needs_and_no_other_secret(tmp_path: Path) -> None:
    """C-S4-062."""
    overrides = {
        "data_dir": tmp_path,
        "database.url": "postgresql://u:passw0rd@db/standgale",
        "models.kind": "s3",
        "models.access_key": "of-models",
        "models.secret_key": "models-s3cret",
        "detector.threads": 3,
        "detector.fallback": False,
        "inference_jobs.access_key": "of-jobs",
        "inference_jobs.secret_key": "jobs-s3cret",
        "inference_jobs.endpoint_url": "http://minio:9000",
        "inference_jobs.buckets": ("a", "b"),
        "inference_jobs.max_images": 7,
    }
    settings = load_settings(None, overrides)
    outer = {"PATH": "/bin", "STANDGALE_DATABASE__URL": "postgresql://u:passw0rd@db/standgale", "AWS_PROFILE": "me"}
    found = process_environment(settings, outer)
    assert "passw0rd" not in str(found)
    assert (found["AWS_ACCESS_KEY_ID"], found["AWS_SECRET_ACCESS_KEY"]) == ("of-jobs", "jobs-s3cret")
    assert (found["AWS_ENDPOINT_URL"], found.get("AWS_PROFILE"), found["PATH"]) == ("http://minio:9000", None, "/bin")
    again = read_settings_of(found)
    assert (again.models, again.detector, again.data_dir) == (settings.models, settings.detector, settings.data_dir)
    assert again.inference_jobs.max_images == 7
    assert again.inference_jobs.buckets == ("a", "b")
    assert again.database.url is None


def read_settings_of(environment: dict[str, str] | object) -> Settings:
    from infra.process.settings_sources import read_settings

    assert isinstance(environment, dict)
    return read_settings(Settings, environ=environment, config=None, overrides={})


def test_keys_of_the_machine_are_passed_on_where_the_settings_have_none() -> None:
    """C-S4-004."""
    outer = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_SESSION_TOKEN": "c", "OTHER": "d"}
    assert s3_variables(InferenceJobsSettings(region="eu-west-1"), outer) == {
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_SESSION_TOKEN": "c",
        "AWS_REGION": "eu-west-1",
    }
    keys = InferenceJobsSettings.model_validate({"access_key": "e", "secret_key": "f"})
    assert "AWS_SESSION_TOKEN" not in s3_variables(keys, outer)


def test_the_variables_of_the_page_of_the_seed_are_read() -> None:
    """C-S4-003: with its values for what is left out."""
    found = read_variables(
        {
            "INFERENCE_JOB_ID": "456",
            "CALLBACK_URL": "http://backend:8000/api/v1/test_inference/inference/456/results",
            "IMAGE_PATHS": "s3://training-checkpoints/inference/456/",
            "CHECKPOINT_PATH": "s3://training-checkpoints/checkpoints/23/best.pt",
            "OUTPUT_PATH": "s3://training-checkpoints/inference/456/results/",
            "LOKI_URL": "http://loki:3100",
        }
    )
    assert (found.job_id, found.confidence, found.iou, found.max_detections) == (456, 0.25, 0.45, 100)
    assert [str(place) for place in found.images] == ["s3://training-checkpoints/inference/456/"]
    assert found.callback.token is None

"""The Job of an inference job: what ships, what the console fills in, and templates that are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from console.inference_jobs.kubernetes import TEMPLATE, Cluster, job_manifest, read_template, secret_manifest
from console.inference_settings import InferenceJobsSettings
from infra.errors import SettingsError

VARIABLES = {
    "INFERENCE_JOB_ID": "456",
    "CALLBACK_URL": "http://console:8001/api/v1/test_inference/inference/456/results",
    "CALLBACK_TOKEN": "s3cret",
    "IMAGE_PATHS": "s3://training-checkpoints/inference/456/",
    "CHECKPOINT_PATH": "s3://training-checkpoints/checkpoints/23/best.onnx",
    "OUTPUT_PATH": "s3://training-checkpoints/inference/456/results/",
    "CONFIDENCE_THRESHOLD": "0.25",
}
# The fields of batch/v1 that the Job may have; a name that is written wrong is none of them.
KNOWN: dict[str, set[str]] = {
    "": {"apiVersion", "kind", "metadata", "spec"},
    "spec": {"activeDeadlineSeconds", "backoffLimit", "template", "ttlSecondsAfterFinished"},
    "spec.template": {"metadata", "spec"},
    "spec.template.spec": {
        *("automountServiceAccountToken", "containers", "restartPolicy", "securityContext", "volumes"),
    },
}


def made(**settings: Any) -> dict[str, Any]:
    return job_manifest(read_template(TEMPLATE), InferenceJobsSettings(**settings), 456, VARIABLES)


def at(document: Any, path: str) -> Any:
    for name in filter(None, path.split(".")):
        document = document[name]
    return document


def test_the_job_has_the_names_and_the_container_of_the_seed() -> None:
    """C-S4-060."""
    job = made(kubernetes_image="registry/standgale:1", time_limit_s=600, attempts=4)
    assert (job["apiVersion"], job["kind"], job["metadata"]["name"]) == ("batch/v1", "Job", "inference-job-456")
    for path, names in KNOWN.items():
        assert set(at(job, path)) <= names, path
    assert (job["spec"]["activeDeadlineSeconds"], job["spec"]["backoffLimit"]) == (600, 3)
    pod = job["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    [container] = pod["containers"]
    assert (container["name"], container["image"]) == ("predict", "registry/standgale:1")
    assert container["command"] == ["standgale", "predict"]


def test_the_environment_is_that_of_a_process_with_secrets_by_reference() -> None:
    """C-S4-004, C-S4-060."""
    job = made(endpoint_url="http://minio:9000", access_key="key", secret_key="other-s3cret")
    [container] = job["spec"]["template"]["spec"]["containers"]
    plain = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    assert plain == {
        **{name: value for name, value in VARIABLES.items() if name != "CALLBACK_TOKEN"},
        "AWS_ENDPOINT_URL": "http://minio:9000",
        "AWS_REGION": "us-east-1",
    }
    secret = {
        each["name"]: tuple(each["valueFrom"]["secretKeyRef"].values())
        for each in container["env"]
        if "value" not in each
    }
    assert secret == {
        "CALLBACK_TOKEN": ("inference-job-456", "callback-token"),
        "AWS_ACCESS_KEY_ID": ("s3-credentials", "access-key"),
        "AWS_SECRET_ACCESS_KEY": ("s3-credentials", "secret-key"),
    }
    assert "s3cret" not in yaml.safe_dump(job)
    token = secret_manifest("inference-job-456", "uid-1", "s3cret")
    assert token["stringData"] == {"callback-token": "s3cret"}
    assert token["metadata"]["ownerReferences"][0]["uid"] == "uid-1"


def test_a_job_does_not_change_the_template() -> None:
    template = read_template(TEMPLATE)
    job_manifest(template, InferenceJobsSettings(), 1, VARIABLES)
    assert template == read_template(TEMPLATE)


@pytest.mark.parametrize(
    "text", ["", "a: [", "kind: Job", "apiVersion: v1\nkind: Pod\nspec: {template: {spec: {containers: []}}}"]
)
def test_a_template_that_is_no_job_is_refused_with_its_setting(tmp_path: Path, text: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=r"inference_jobs\.kubernetes_template"):
        read_template(path)


def test_outside_of_a_cluster_the_setting_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"inference_jobs\.run"):
        Cluster.of_this_pod(None, {})
    with pytest.raises(ValueError, match=r"inference_jobs\.callback_url"):
        InferenceJobsSettings(run="kubernetes")

"""Defines the settings of inference jobs: where they run, what they may read, and their limits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator

from infra.sections import HttpAddress, Interval, PositiveSeconds, Section

_Count = Annotated[int, Field(ge=1, le=1_000_000)]
_Few = Annotated[int, Field(ge=1, le=64)]
_Bytes = Annotated[int, Field(ge=1_024, le=10_000_000_000)]
_LeaseSeconds = Annotated[float, Field(ge=1, le=86_400)]


class InferenceJobsSettings(Section):
    """Says how inference jobs run, and where their pictures and results are."""

    section = "inference_jobs"

    run: Literal["process", "kubernetes", "none"] = Field(
        default="process",
        description="process: each job is a child process of the console; kubernetes: a Job of the cluster in which "
        "the console runs; none: another console starts them",
    )
    at_once: _Few = Field(default=1, description="how many jobs one console runs at the same time")
    attempts: _Few = Field(
        default=3, description="how many times a job is started whose process is lost, before it has failed"
    )
    poll_s: Interval = Field(default=1.0, description="how often new jobs and ended processes are looked for")
    lease_s: _LeaseSeconds = Field(
        default=30.0, description="after how long without a sign of a console another one starts its jobs again"
    )
    time_limit_s: PositiveSeconds = Field(
        default=86_400.0, description="a job that runs longer is ended, and has failed"
    )
    callback_url: HttpAddress | None = Field(
        default=None,
        description="the address of this console as the processes of jobs reach it, such as http://console:8001; "
        "none: its port on this machine",
    )
    callback_timeout_s: PositiveSeconds = Field(
        default=600.0, description="for how long the process of a job tries to deliver its results"
    )
    max_results_bytes: _Bytes = Field(default=32_000_000, description="the largest body of a call-back with results")
    max_images: _Count = Field(default=10_000, description="the most pictures of one job")
    max_image_bytes: _Bytes = Field(default=500_000_000, description="the largest picture that a job reads")
    bucket: str = Field(
        default="training-checkpoints",
        description="the bucket with uploaded pictures and results, in inference/JOB/ and inference/JOB/results/",
    )
    buckets: tuple[str, ...] = Field(
        default=("training-checkpoints", "training-datasets"),
        description="the buckets whose pictures and models clients may name",
    )
    endpoint_url: HttpAddress | None = Field(default=None, description="the address of an S3 server other than AWS")
    region: str = Field(default="us-east-1", description="the region of the buckets")
    access_key: SecretStr | None = Field(
        default=None, description="the id of the key; without both keys those of the machine are used"
    )
    secret_key: SecretStr | None = Field(default=None, description="the secret of access_key")
    timeout_s: PositiveSeconds = Field(default=10.0, description="the time limit for connecting, and for each read")

    kubernetes_image: str = Field(default="standgale:latest", description="kubernetes: the container image of Jobs")
    kubernetes_namespace: str | None = Field(
        default=None, description="kubernetes: the namespace of Jobs; none: that in which the console runs"
    )
    kubernetes_template: Path | None = Field(
        default=None, description="kubernetes: a YAML file with the Job, in place of the one that ships"
    )

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.run == "kubernetes" and self.callback_url is None:
            raise ValueError(
                f"{self.named('callback_url')}: missing with inference_jobs.run kubernetes; give the address of the "
                "console as pods reach it, such as http://console:8001"
            )
        return self

    @model_validator(mode="after")
    def _both_keys(self) -> Self:
        self.require_both("access_key", "secret_key")
        return self

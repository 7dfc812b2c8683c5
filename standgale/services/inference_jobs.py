"""Builds what runs inference jobs behind a console: who starts their processes, and who removes unused pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from console.inference_jobs.kubernetes import Cluster, KubernetesLauncher
from console.inference_jobs.process import Launcher, ProcessLauncher, s3_variables
from console.inference_jobs.retention import InferenceImagesRetention
from console.inference_jobs.runner import InferenceJobRunner
from infra.process.components import Component
from infra.sections import Section
from standgale.children import standgale_command
from standgale.services.composition import Composition
from standgale.settings import Settings

_SYSTEM = (
    *("PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "OMP_NUM_THREADS"),
)
# Not those of the database, of the broker, or the keys that encrypt secrets.
_SECTIONS = ("models", "detector", "retry", "inference_jobs")
_NOT_FOR_JOBS = ("access_key", "secret_key")
_ANY_HOST = ("0.0.0.0", "::")  # noqa: S104 (compared, not listened on)


def make_inference_workers(process: Composition, host: str, port: int) -> list[Component]:
    """Make the components for a console that listens on ``host`` and ``port``."""
    settings = process.settings
    jobs, database, objects = settings.inference_jobs, process.database(), process.job_objects()
    components: list[Component] = [InferenceImagesRetention(database, objects, settings.retry)]
    if jobs.run != "none":
        base_url = jobs.callback_url or _own_url(host, port)
        components.append(
            InferenceJobRunner(database, process.box(), jobs, settings.retry, _launcher(settings), base_url)
        )
    return components


def _launcher(settings: Settings) -> Launcher:
    jobs = settings.inference_jobs
    if jobs.run == "kubernetes":
        return KubernetesLauncher(Cluster.of_this_pod(jobs.kubernetes_namespace), jobs, settings.retry)
    command = standgale_command("predict", "--stop-at-end-of-input")
    return ProcessLauncher(command, process_environment(settings, os.environ))


def process_environment(settings: Settings, environ: Mapping[str, str]) -> Mapping[str, str]:
    """Return the environment of a job's process: what it needs of ``settings``, and of the system.

    It has no password of the database or of the broker.
    """
    found = {name: environ[name] for name in _SYSTEM if name in environ}
    found["STANDGALE_DATA_DIR"] = str(settings.data_dir.absolute())
    for name in _SECTIONS:
        section: Section = getattr(settings, name)
        for field in section.model_fields_set - (set(_NOT_FOR_JOBS) if name == "inference_jobs" else set()):
            value = getattr(section, field)
            if value is not None:
                found[f"STANDGALE_{name}__{field}".upper()] = _text(value)
    found["STANDGALE_TELEMETRY__LOG_FORMAT"] = settings.telemetry.log_format
    found["STANDGALE_TELEMETRY__LOG_LEVEL"] = settings.telemetry.log_level
    return {**found, **s3_variables(settings.inference_jobs, environ)}


def _text(value: Any) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, Path):
        return str(value.absolute())
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return json.dumps([_text(each) for each in value])
    return str(value)


def _own_url(host: str, port: int) -> str | None:
    """Return where a process of this machine reaches the console; None for a port that is chosen later."""
    if port == 0:
        return None
    name = "127.0.0.1" if host in _ANY_HOST else host
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"

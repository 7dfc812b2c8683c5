"""Runs the command of an inference job as a Job of the Kubernetes cluster in which the console runs."""

from __future__ import annotations

import asyncio
import copy
import logging
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import yaml

from console.inference_jobs.process import Ended
from console.inference_settings import InferenceJobsSettings
from infra.errors import SettingsError
from infra.failure.backoff import Backoff
from infra.failure.settings import RetrySettings
from infra.network.responses import read_bounded
from infra.texts import shortened

logger = logging.getLogger(__name__)

TEMPLATE = Path(__file__).resolve().parents[2] / "infra" / "deploy" / "kubernetes" / "inference-job.yaml"
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TOKEN_KEY = "callback-token"  # noqa: S105 (the name of a key of a Secret)
_CONTAINER = "predict"
_POLL_S = 2.0
_TIMEOUT_S = 15.0
_LONGEST = 500
_LARGEST_RESPONSE = 2_000_000
_CONFLICT, _NOT_FOUND, _LATER, _HTTP_ERROR, _HTTP_SERVER_ERROR = 409, 404, 429, 400, 500


class _RefusedError(Exception):
    """The API refuses a call; the text says why."""


class Cluster:
    """Reaches the API of a cluster with the service account of a pod."""

    def __init__(self, url: str, account: Path = _ACCOUNT, namespace: str | None = None) -> None:
        """``account``: the folder with ``token``, ``ca.crt`` and ``namespace``."""
        self.url = url
        self._account = account
        self._namespace = namespace

    @classmethod
    def of_this_pod(cls, namespace: str | None, environ: Mapping[str, str] = os.environ) -> Cluster:
        """Return the cluster in which this process runs. Raises SettingsError outside of one."""
        host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT", "443")
        if not host or not (_ACCOUNT / "token").exists():
            raise SettingsError(
                f"{InferenceJobsSettings.named('run')}: received kubernetes, but this process is in no pod with a "
                "service account; take process, or run the console in the cluster"
            )
        return cls(f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}", namespace=namespace)

    @property
    def namespace(self) -> str:
        """Where Jobs are made."""
        return self._namespace or (self._account / "namespace").read_text(encoding="utf-8").strip()

    def session(self) -> aiohttp.ClientSession:
        """Return a session with the token as it is now: it is renewed every hour."""
        token = (self._account / "token").read_text(encoding="utf-8").strip()
        context = ssl.create_default_context(cafile=str(self._account / "ca.crt")) if self._is_tls else None
        return aiohttp.ClientSession(
            self.url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S),
            connector=aiohttp.TCPConnector(ssl=True if context is None else context),
        )

    @property
    def _is_tls(self) -> bool:
        return self.url.startswith("https://")


class KubernetesLauncher:
    """Makes a Job for each inference job, and watches it; a console that finds the Job of another one watches that."""

    def __init__(
        self, cluster: Cluster, settings: InferenceJobsSettings, retry: RetrySettings, *, poll_s: float = _POLL_S
    ) -> None:
        """Raises SettingsError for a template that is none."""
        self._cluster = cluster
        self._settings = settings
        self._retry = retry
        self._poll_s = poll_s
        self._template = read_template(settings.kubernetes_template or TEMPLATE)

    async def run(self, job_id: int, variables: Mapping[str, str]) -> Ended:
        """Make the Job, if there is none, and wait for its end; cancelled, it goes on, for another console to watch."""
        name = f"inference-job-{job_id}"
        jobs = f"/apis/batch/v1/namespaces/{self._cluster.namespace}/jobs"
        try:
            await self._call("POST", jobs, job_manifest(self._template, self._settings, job_id, variables))
            made = await self._call("GET", f"{jobs}/{name}")
            if made is None:
                return Ended("its Job was removed")
            secret = secret_manifest(name, made["metadata"]["uid"], variables["CALLBACK_TOKEN"])
            await self._call("POST", f"/api/v1/namespaces/{self._cluster.namespace}/secrets", secret)
            logger.info("inference job %d runs as Job %s", job_id, name)
            while True:
                found = await self._call("GET", f"{jobs}/{name}")
                if found is None:
                    return Ended("its Job was removed")
                if (ended := _end_of(found)) is not None:
                    return ended
                await asyncio.sleep(self._poll_s)
        except _RefusedError as error:
            return Ended(f"the cluster refuses its Job: {error}", final=True)

    async def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
        """Return the response; None for what is not there, or is there already. Tries until the API responds."""
        backoff = Backoff(self._retry)
        while True:
            try:
                async with self._cluster.session() as session, session.request(method, path, json=body) as response:
                    data = await read_bounded(response, _LARGEST_RESPONSE)
                    status = response.status
                    if status < _HTTP_ERROR:
                        return dict(orjson.loads(data))
            except (aiohttp.ClientError, OSError, TimeoutError, orjson.JSONDecodeError) as error:
                why = f"{type(error).__name__}: {error}"
            else:
                text = shortened(data.decode(errors="replace"), _LONGEST)
                if status in (_CONFLICT, _NOT_FOUND):
                    if method == "POST" and status == _NOT_FOUND:
                        raise _RefusedError(f"HTTP {status}: {text}")
                    return None
                if status < _HTTP_SERVER_ERROR and status != _LATER:
                    raise _RefusedError(f"HTTP {status}: {text}")
                why = f"HTTP {status}: {text}"
            logger.warning("the API of the cluster is tried again: %s", why)
            await asyncio.sleep(backoff.next_delay_s())


def read_template(path: Path) -> Mapping[str, Any]:
    """Return the Job in the file at ``path``. Raises SettingsError that says what it needs."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        containers = found["spec"]["template"]["spec"]["containers"]
        if (found["apiVersion"], found["kind"]) != ("batch/v1", "Job"):
            raise ValueError("it is not of kind Job of batch/v1")
        if [each["name"] for each in containers].count(_CONTAINER) != 1:
            raise ValueError(f"it has no container {_CONTAINER}")
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise SettingsError(
            f"{InferenceJobsSettings.named('kubernetes_template')}: {path} is no Job with a container {_CONTAINER}: "
            f"{error}"
        ) from error
    return dict(found)


def job_manifest(
    template: Mapping[str, Any], settings: InferenceJobsSettings, job_id: int, variables: Mapping[str, str]
) -> dict[str, Any]:
    """Return the Job of an inference job; its token is not in it."""
    name = f"inference-job-{job_id}"
    job: dict[str, Any] = copy.deepcopy(dict(template))
    job["metadata"]["name"] = name
    job["spec"]["activeDeadlineSeconds"] = max(1, int(settings.time_limit_s))
    job["spec"]["backoffLimit"] = settings.attempts - 1
    [container] = [each for each in job["spec"]["template"]["spec"]["containers"] if each["name"] == _CONTAINER]
    container["image"] = settings.kubernetes_image
    plain = {key: value for key, value in variables.items() if key != "CALLBACK_TOKEN"}
    if settings.endpoint_url is not None:
        plain["AWS_ENDPOINT_URL"] = settings.endpoint_url
    plain["AWS_REGION"] = settings.region
    kept = [each for each in container.get("env", []) if each["name"] not in plain]
    for each in kept:
        if each["name"] == "CALLBACK_TOKEN":
            each["valueFrom"]["secretKeyRef"]["name"] = name
    container["env"] = [*({"name": key, "value": value} for key, value in plain.items()), *kept]
    return job


def secret_manifest(name: str, owner: str, token: str) -> dict[str, Any]:
    """Return the Secret with the token of the call-back, which is removed with its Job."""
    reference = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": owner}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "ownerReferences": [reference]},
        "type": "Opaque",
        "stringData": {_TOKEN_KEY: token},
    }


def _end_of(job: Mapping[str, Any]) -> Ended | None:
    """Return how the Job ended; None while it runs."""
    for condition in job.get("status", {}).get("conditions") or ():
        if condition.get("status") != "True":
            continue
        if condition.get("type") == "Complete":
            return Ended("its Job is complete, but no result came")
        if condition.get("type") == "Failed":
            why = f"{condition.get('reason', '')}: {condition.get('message', '')}"
            return Ended(f"its Job has failed: {shortened(why, _LONGEST)}; its pods have the reason", final=True)
    return None

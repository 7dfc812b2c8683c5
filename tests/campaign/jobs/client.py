"""Sends the requests of a client of the console, and keeps how long each kind of them took."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.harnesses.edge_process import small_jpeg


@dataclass
class Times:
    """Collects seconds by the kind of request, and responses that were no success."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    refused: Counter[str] = field(default_factory=Counter)


class Answer:
    """Holds a response; status 0: there was none."""

    def __init__(self, status: int, body: Any, retry_after_s: float = 1.0) -> None:
        self.status = status
        self.retry_after_s = retry_after_s
        self.body = body

    @property
    def is_success(self) -> bool:
        """Whether the request was done."""
        return 200 <= self.status < 300

    @property
    def data(self) -> Any:
        """What the response is about."""
        return self.body["data"]


class JobClient:
    """Has one key."""

    def __init__(self, session: aiohttp.ClientSession, url: str, key: str, times: Times) -> None:
        self._session = session
        self._url = url
        self.headers = {"X-API-Key": key}
        self._times = times

    async def request(self, kind: str, method: str, path: str, **options: Any) -> Answer:
        """Send a request, and note its time if it is a success; an error of the connection is status 0."""
        began = time.perf_counter()
        try:
            async with self._session.request(
                method, self._url + path, headers=self.headers, timeout=aiohttp.ClientTimeout(total=60), **options
            ) as response:
                body = await response.json(content_type=None) if response.status != 204 else None
                status, retry_after_s = response.status, float(response.headers.get("Retry-After", 1))
        except (aiohttp.ClientError, OSError, ValueError) as error:
            self._times.refused[f"{kind}: {type(error).__name__}"] += 1
            return Answer(0, None)
        if status < 400:
            self._times.seconds[kind].append(time.perf_counter() - began)
        else:
            self._times.refused[f"{kind}: {status} {body.get('error_code')}"] += 1
        return Answer(status, body, retry_after_s)

    async def upload(self, pictures: Sequence[bytes]) -> Answer:
        """Send an upload of ``pictures``."""
        form = aiohttp.FormData()
        for number, picture in enumerate(pictures):
            form.add_field("files", picture, filename=f"{number}.jpg", content_type="image/jpeg")
        return await self.request("upload", "POST", "/api/v1/inference/upload", data=form)

    async def predict(self, upload_id: str) -> Answer:
        """Ask for a job of all files of an upload."""
        body = {"upload_id": upload_id, "config": {"sahi": {"enabled": False}}}
        return await self.request("predict", "POST", "/api/v1/inference/predict", json=body)

    async def status(self, job_id: str) -> Answer:
        """Ask for the status of a job."""
        return await self.request("status", "GET", f"/api/v1/jobs/{job_id}/status")


def pictures(first: int, count: int) -> list[bytes]:
    """Return different small pictures."""
    return [small_jpeg(number) for number in range(first, first + count)]

"""Builds the body of a call-back, and posts it until it is taken."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from infra.failure.backoff import Backoff, Delays
from infra.process.monotonic import monotonic_s
from standgale.inference.errors import NotDeliveredError
from standgale.inference.variables import Callback

logger = logging.getLogger(__name__)

_CALL_TIMEOUT_S = 60.0
_LONGEST_RESPONSE = 2_000
_LONGEST_MESSAGE = 4_000
_LATER = (408, 425, 429)
_HTTP_SUCCESS, _HTTP_REDIRECT, _HTTP_SERVER_ERROR = 200, 300, 500


@dataclass(frozen=True, slots=True)
class ImageResult:
    """Is what was found in one picture, or why there is no result."""

    path: str
    predictions: Sequence[dict[str, object]]
    time_ms: float | None
    error: str | None = None

    def body(self) -> dict[str, object]:
        """Return it as the call-back has it."""
        fields: dict[str, object] = {
            "image_path": self.path,
            "predictions": list(self.predictions),
            "inference_time_ms": self.time_ms,
        }
        return fields if self.error is None else {**fields, "error_message": self.error}


def completed_body(results: Sequence[ImageResult]) -> bytes:
    """Return the body for a job with results."""
    total_ms = round(sum(each.time_ms or 0.0 for each in results), 3)
    failed = [each for each in results if each.error is not None]
    body: dict[str, Any] = {
        "status": "completed",
        "total_images": len(results),
        "total_inference_time_ms": total_ms,
        "avg_inference_time_ms": round(total_ms / len(results), 3),
        "results": [each.body() for each in results],
    }
    if failed:
        first = failed[0]
        body["error_message"] = (
            f"{len(failed)} of {len(results)} pictures have no result; the first: {first.path}: {first.error}"
        )[:_LONGEST_MESSAGE]
    return orjson.dumps(body)


def failed_body(message: str) -> bytes:
    """Return the body for a job without results."""
    return orjson.dumps({"status": "failed", "error_message": message[:_LONGEST_MESSAGE]})


async def deliver(callback: Callback, body: bytes, retry: Delays, timeout_s: float) -> None:
    """Post ``body`` until it is taken, for at most ``timeout_s``. Raises NotDeliveredError."""
    headers = {"Content-Type": "application/json"}
    if callback.token is not None:
        headers["Authorization"] = f"Bearer {callback.token.get_secret_value()}"
    backoff, end = Backoff(retry), monotonic_s() + timeout_s
    limit = aiohttp.ClientTimeout(total=_CALL_TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=limit) as session:
        while True:
            why = await _post(session, callback.url, headers, body)
            if why is None:
                return
            delay_s = backoff.next_delay_s()
            if monotonic_s() + delay_s > end:
                raise NotDeliveredError(f"{callback.url} was not reached for {timeout_s:g} s: {why}")
            logger.warning("the call-back was not taken, and is tried again: %s", why)
            await asyncio.sleep(delay_s)


async def _post(session: aiohttp.ClientSession, url: str, headers: dict[str, str], body: bytes) -> str | None:
    """Return None when the call-back was taken, else why not for now. Raises NotDeliveredError when it is refused."""
    try:
        # A redirect would take the secret elsewhere.
        async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
            status = response.status
            text = (await response.content.read(_LONGEST_RESPONSE)).decode(errors="replace")
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        return f"{type(error).__name__}: {error}"
    if _HTTP_SUCCESS <= status < _HTTP_REDIRECT:
        return None
    if status >= _HTTP_SERVER_ERROR or status in _LATER:
        return f"HTTP {status}: {text}"
    raise NotDeliveredError(f"{url} refused the results with HTTP {status}: {text}", refused=True)

"""Errors of the console tell its clients what they can do, and name settings of the console."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send

from console.http.bodies import BodyLimits
from console.http.error_texts import describe_error_of_picture
from console.settings import ConsoleSettings
from infra.errors import DatabaseUnavailableError, RefusedError, SettingsError
from infra.http_api.errors.api_errors import UploadTimeoutError
from infra.http_api.limits.rates import RateLimitError, RateLimits
from infra.http_api.limits.slots import UploadSlots
from infra.http_api.limits.turns import Turns
from ingest.images.check import FileTooLargeError
from ingest.limits.settings import LimitsSettings


def test_picture_that_is_too_large_gets_no_advice_for_devices() -> None:
    """The details sent clients of the console to /api/v1/originals, which only the gateway has."""
    text = describe_error_of_picture(FileTooLargeError("the image has 9 bytes"), "req-1")
    assert (text.status, text.code, text.field) == (400, "FILE_TOO_LARGE", "image")
    assert "originals" not in str(text.details)
    assert "settings of the console" in str(text.details)


def test_unavailable_database_does_not_promise_that_a_job_sent_twice_counts_once() -> None:
    text = describe_error_of_picture(DatabaseUnavailableError("postgresql://secret"), "req-1")
    assert (text.status, text.code) == (503, "DATABASE_UNAVAILABLE")
    assert text.details == "Send the same request again after Retry-After seconds."


@pytest.mark.parametrize("error", [SettingsError("bucket: secret"), RefusedError("the password secret is wrong")])
def test_wrong_setting_is_for_the_operator_first(error: Exception) -> None:
    """Clients were asked to send the request again, as if waiting helped."""
    text = describe_error_of_picture(error, "req-1")
    assert text.status == 503
    assert "secret" not in f"{text.message} {text.details}"
    assert text.details == (
        "Tell the operator: the log of the service says, with this request id, what to correct. Then: send the same "
        "request again after Retry-After seconds."
    )


def test_failure_names_the_service_and_the_request() -> None:
    text = describe_error_of_picture(RuntimeError("secret"), "req-1")
    assert (text.status, text.message) == (500, "the service failed at this request")
    assert "req-1" in str(text.details)


async def test_json_that_is_too_slow_is_refused_with_the_setting_of_the_console() -> None:
    """The message named gateway.body_timeout_s."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("the body is not complete")

    async def receive() -> Message:
        await asyncio.sleep(0.05)
        return {"type": "http.request", "body": b"{", "more_body": True}

    async def send(message: Message) -> None:
        raise AssertionError(message)

    slots = UploadSlots(1, 1_000_000, "console.max_bodies")
    limits = BodyLimits(app, ConsoleSettings(body_timeout_s=0.1), slots, Turns())
    scope = {"type": "http", "path": "/api/v1/predict", "headers": [(b"content-length", b"9")], "client": ("::1", 1)}
    with pytest.raises(UploadTimeoutError, match=r"within 0\.1 s \(console\.body_timeout_s\)"):
        await limits(scope, receive, send)


def test_client_beyond_its_rate_is_called_a_client() -> None:
    rates = RateLimits(LimitsSettings(device_per_minute=1))
    verifier = rates.verifier(_Keys())
    with rates.request_of("192.0.2.1") as request:
        assert verifier.verify("sgk_right")
        with pytest.raises(RateLimitError, match="this client has made 1 requests in a minute"):
            verifier.verify("sgk_right")
        assert [state.name for state in request.states] == ["client", "client"]


class _Keys:
    holder_id = "desktop"
    scope = None

    def verify(self, token: str) -> _Keys:
        return self

    async def look_up(self, token: str) -> None:
        """Find nothing new."""

"""Logs: their shape, the ids bound to them, and that no secret gets out."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr

from infra.secrets import secrets_of
from infra.telemetry import logs
from infra.telemetry.logs import MASK, bind, configure_logging, current_ids, redact
from infra.telemetry.settings import TelemetrySettings
from standgale.settings import Settings, load_settings

logger = logging.getLogger("standgale.test")


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    out = io.StringIO()
    configure_logging(TelemetrySettings(log_level="DEBUG"), service="test", secrets=("open-sesame", "a"), stream=out)
    yield out
    configure_logging(TelemetrySettings(), service="test")
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in stream.getvalue().splitlines()]
    return [line for line in found if line["logger"] != "asyncio"]


def test_a_line_has_time_level_logger_message_and_extra(stream: io.StringIO) -> None:
    logger.info(
        "found %d", 3, extra={"inference_time_ms": 1.5, "frame": UUID(int=1), "when": datetime(2026, 1, 1, tzinfo=UTC)}
    )
    (line,) = lines(stream)
    assert line["level"] == "INFO"
    assert line["logger"] == "standgale.test"
    assert line["service"] == "test"
    assert line["message"] == "found 3"
    assert line["inference_time_ms"] == 1.5
    assert line["frame"] == str(UUID(int=1))
    assert line["when"] == "2026-01-01T00:00:00.000000Z"
    assert datetime.fromisoformat(line["timestamp"]).tzinfo is not None
    assert len(line["timestamp"]) == 27


async def test_bound_ids_belong_to_their_task(stream: io.StringIO) -> None:
    async def handle(request: str) -> None:
        with bind(request_id=request, device_id=None):
            await asyncio.sleep(0)
            with bind(frame_id=UUID(int=2)):
                logger.info("inside")
            logger.info("after")

    await asyncio.gather(handle("r1"), handle("r2"))
    assert current_ids() == {}
    assert [(line["request_id"], "frame_id" in line) for line in lines(stream)] == [
        ("r1", True),
        ("r1", False),
        ("r2", True),
        ("r2", False),
    ]
    assert all("device_id" not in line for line in lines(stream))


def test_secrets_never_appear_anywhere(stream: io.StringIO) -> None:
    try:
        raise ValueError("bad login with open-sesame")
    except ValueError:
        logger.exception(
            "failed for %s", "open-sesame", extra={"deep": {"open-sesame": ["open-sesame", SecretStr("x")]}}
        )
    with bind(request_id="open-sesame"):
        logger.info("again")
    assert "sesame" not in stream.getvalue()
    first = lines(stream)[0]
    assert first["message"] == f"failed for {MASK}"
    assert first["deep"] == {MASK: [MASK, MASK]}
    assert first["error_type"] == "ValueError"
    assert "Traceback" in first["exception"]


def test_a_short_secret_does_not_mask_everything(stream: io.StringIO) -> None:
    assert redact("a banana") == "a banana"


def test_secrets_of_settings_are_all_known() -> None:
    settings = load_settings(
        None,
        {
            "database.url": "postgresql://me:very-hidden@127.0.0.1/db",
            "frames.access_key": "key-of-store",
            "frames.secret_key": "secret-of-store",
            "sse.tokens": ["token-one", "token-two"],
        },
    )
    assert secrets_of(settings) >= {"very-hidden", "key-of-store", "secret-of-store", "token-one", "token-two"}
    assert secrets_of(Settings()) == set()


def test_json_log_replaces_values_that_json_cannot_hold(stream: io.StringIO) -> None:
    logger.info(
        "odd \ud800", extra={"big": 1 << 70, "raw": b"abc", "file": "x\udcff", "nan": float("nan"), "obj": object}
    )
    (line,) = lines(stream)
    assert line["big"] == str(1 << 70)
    assert line["raw"] == "<3 bytes>"
    assert line["nan"] is None
    assert line["file"] == "x\\udcff"
    assert line["message"] == "odd \\ud800"


def test_uvicorn_speaks_through_the_same_handler(stream: io.StringIO) -> None:
    logging.getLogger("uvicorn.error").warning("socket trouble", extra={"color_message": "x"})
    logging.getLogger("uvicorn.error").info("chatter")
    assert [(line["logger"], line["message"]) for line in lines(stream)] == [("uvicorn", "socket trouble")]
    assert "color_message" not in lines(stream)[0]


def test_requests_that_are_cut_off_at_the_end_leave_no_tracebacks(stream: io.StringIO) -> None:
    uvicorn = logging.getLogger("uvicorn.error")
    for error in (asyncio.CancelledError("timeout graceful shutdown exceeded"), KeyError("x")):
        uvicorn.error("Exception in ASGI application", exc_info=error)
    uvicorn.error("Cancel 64 running task(s), timeout graceful shutdown exceeded")
    assert [line.get("error_type") for line in lines(stream)] == ["KeyError", None]


def test_record_with_exc_info_false_is_logged(stream: io.StringIO) -> None:
    # uvloop's handler of exceptions logs so.
    logger.error("connection was closed", exc_info=False)
    assert [line["message"] for line in lines(stream)] == ["connection was closed"]


def test_text_for_people(stream: io.StringIO) -> None:
    configure_logging(TelemetrySettings(log_format="text"), service="test", secrets=("open-sesame",), stream=stream)
    with bind(device_id="d1"):
        logger.warning("careful, open-sesame", extra={"n": 1})
    logger.debug("too quiet")
    text = stream.getvalue()
    assert f"WARNING standgale.test: careful, {MASK} device_id=d1 n=1\n" in text
    assert "too quiet" not in text


def test_repeated_kafka_client_messages_are_logged_once_and_counted(
    stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(logs, "time", SimpleNamespace(monotonic=lambda: now))
    client = logging.getLogger("aiokafka.client")
    for number in range(500):
        client.error("Unable connect to node with id %s: %s", number, "refused")
        logger.error("ours %d", number)
    client.warning("Unable connect to node with id %s: %s", 1, "another level")
    assert [line["message"] for line in lines(stream) if line["logger"] == "aiokafka.client"] == [
        "Unable connect to node with id 0: refused",
        "Unable connect to node with id 1: another level",
    ]
    assert sum(line["logger"] == "standgale.test" for line in lines(stream)) == 500
    now += 11.0
    client.error("Unable connect to node with id %s: %s", 7, "refused")
    assert lines(stream)[-1]["message"] == "Unable connect to node with id 7: refused (and 499 more like this)"

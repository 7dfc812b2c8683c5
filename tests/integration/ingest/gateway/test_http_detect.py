"""POST /api/v1/detect: what is found comes back (C-S1-001 to C-S1-007), or why not, or where to look."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from uuid import UUID

import aiohttp
import pytest
from prometheus_client import REGISTRY

from detectors.errors import ImageTooCostlyError, InferenceError
from detectors.worker.frames.lateness import DeadlineError
from infra.errors import BrokerUnavailableError, ImageCorruptError
from ingest.gateway.openapi.bodies import DetectionResult, UnansweredFrame
from ingest.settings import GatewaySettings
from schemas.errors import StandgaleError
from schemas.ids import frame_id
from standgale.testing.waiting import until
from tests.harnesses.stand_in_detector import detecting
from tests.harnesses.worker_site import WorkerSite, picture
from tests.servers.gateway import FRAME, TOKEN, WHEN, Gateway, GatewayResponse, jpeg, running
from tests.servers.gateway_checks import assert_documented, assert_error, assert_nothing_stored

DETECT = "/api/v1/detect"
QUICK = GatewaySettings(answer_timeout_s=0.3)


async def detect(gateway: Gateway, data: object = FRAME, **more: object) -> GatewayResponse:
    return await gateway.send(data, path=DETECT, **{"params": {"timestamp": WHEN}, **more})


def form(**fields: str) -> aiohttp.FormData:
    data = aiohttp.FormData()
    for name, value in fields.items():
        data.add_field(name, value)
    data.add_field("image", picture(40), filename="../birds/nest.png", content_type="image/png")
    return data


@asynccontextmanager
async def working(folder: Path) -> AsyncIterator[Gateway]:
    """Run a gateway and a real worker on one embedded broker and one folder of frames."""
    site = WorkerSite(folder)
    async with running(folder, broker=site.broker) as gateway, site.run_workers(site.parts()):
        yield gateway


async def test_detect_returns_detections_of_a_worker_with_all_fields(tmp_path: Path) -> None:
    """C-S1-001 to C-S1-006."""
    async with working(tmp_path) as gateway:
        fields = {"device_id": "drone-1", "timestamp": "2026-01-31T13:00:00+01:00", "metadata": '{"flight": 7}'}
        response = await detect(gateway, form(**fields), params={})
        assert response.status == 200, response.body
        body = response.json
        assert_documented(body, DetectionResult)
        (found,) = body["detections"]
        digest = body["image"]["sha256"]
        assert UUID(body["image_id"]) == frame_id("drone-1", datetime.fromisoformat(WHEN), digest)
        assert body["lakefs_path"] == f"images/drone-1/2026-01-31/12-00-00_{digest[:4]}.png"
        assert isinstance(body["inference_time_ms"], float)
        assert (body["model_version"], body["has_detections"], body["warnings"]) == ("1.0.0", True, [])
        assert UUID(found["id"])
        assert found["image_id"] == body["image_id"]
        assert found["bbox"] == pytest.approx([0.1, 1 / 3, 0.2, 13 / 30], abs=1e-5)
        assert (found["label"], found["confidence"]) == ("red", 0.9)
        assert datetime.fromisoformat(found["created_at"]) >= datetime.fromisoformat(body["received_at"])
        assert "corners" not in found
        # The frame is no new one, also as a raw body that the live endpoint accepts.
        assert (await gateway.send(picture(40))).json["frame_id"] == body["image_id"]
        again = await detect(gateway, picture(40))
        assert (again.status, again.json["detections"]) == (200, body["detections"])
        nothing = await detect(gateway, picture(40, colour=(90, 90, 90)))
        assert (nothing.status, nothing.json["detections"], nothing.json["has_detections"]) == (200, [], False)


async def test_frame_accepted_earlier_gets_its_detections_when_sent_to_detect(gateway: Gateway) -> None:
    async with detecting(gateway.broker) as taken:
        assert (await gateway.send()).status == 202
        await until(lambda: len(taken) == 1)
        # The stand-in drops it like a detector: only the end of the partition has the answer.
        response = await detect(gateway)
        assert (response.status, response.json["detections"][0]["label"]) == (200, "bird")


async def test_frame_without_detections_in_time_gets_202_and_links(tmp_path: Path) -> None:
    """C-S1-007 and C-S1-030."""
    async with running(tmp_path, QUICK) as gateway:
        response = await detect(gateway)
        assert response.status == 202
        body = response.json
        assert_documented(body, UnansweredFrame)
        assert (body["status"], body["image_id"]) == ("accepted", body["frame_id"])
        assert body["links"]["detections"].endswith("/api/v1/detections/stream?device=drone-1")
        assert "after 0.3 s" in body["message"]
        assert "send the same request again" in body["message"]
        async with detecting(gateway.broker):
            await until(lambda: _status(gateway, 200))
        assert len(gateway.stored()) == 1


async def _status(gateway: Gateway, status: int) -> bool:
    return (await detect(gateway)).status == status


@pytest.mark.parametrize(
    ("error", "status", "code", "told"),
    [
        (ImageCorruptError("the object at file:///srv/frames/ab/x.jpg ends early"), 422, "IMAGE_CORRUPT", "ends early"),
        (ImageTooCostlyError("20 s of CPU time"), 422, "IMAGE_TOO_COSTLY", "20 s of CPU"),
        (InferenceError("/srv/models/secret.onnx"), 500, "INFERENCE_ERROR", "its dead letter has the reason"),
        (DeadlineError("its turn came 3 s late"), 503, "DEADLINE_EXCEEDED", "3 s late"),
    ],
)
async def test_dead_letter_ends_the_wait_at_once_with_its_reason(
    gateway: Gateway, error: StandgaleError, status: int, code: str, told: str
) -> None:
    async with detecting(gateway.broker, lambda _: error):
        began = asyncio.get_running_loop().time()
        body = assert_error(await detect(gateway), status, code)
        assert asyncio.get_running_loop().time() - began < 5
    assert told in body["message"]
    assert "/srv/" not in str(body)
    assert "dead letter" in body["details"]


async def test_detect_refuses_what_frames_refuses(gateway: Gateway) -> None:
    """C-S1-002 and C-S1-019 to C-S1-026."""
    assert_error(await detect(gateway, token=None), 401, "UNAUTHORIZED")
    other = await detect(gateway, params={"device_id": "drone-2", "timestamp": WHEN})
    assert_error(other, 403, "ACCESS_DENIED", "device_id")
    assert_error(await detect(gateway, b"\0\1\2\3"), 400, "INVALID_FORMAT", "image")
    assert_error(await detect(gateway, FRAME[:-200]), 400, "CORRUPTED_FILE", "image")
    assert_error(await detect(gateway, jpeg(255, 300)), 400, "INVALID_DIMENSIONS", "image")
    assert_error(await detect(gateway, bytes(10_000_001)), 400, "FILE_TOO_LARGE", "image")
    no_image = aiohttp.FormData({"device_id": "drone-1"}, default_to_multipart=True)
    assert "timestamp" in assert_error(await detect(gateway, no_image), 400, "VALIDATION_ERROR", "image")["details"]
    assert_error(await detect(gateway, params={}), 400, "INVALID_CAPTURE_TIME", "captured_at")
    assert_error(await detect(gateway, params={"timestamp": "12:00"}), 400, "INVALID_CAPTURE_TIME", "timestamp")
    both = {"timestamp": WHEN, "captured_at": WHEN}
    twice = assert_error(await detect(gateway, params=both), 400, "VALIDATION_ERROR", "captured_at")
    assert twice["message"] == "captured_at was given twice, as timestamp and as captured_at; give it once"
    # The live endpoint knows the one name only.
    assert_error(await gateway.send(params={"timestamp": WHEN}), 400, "VALIDATION_ERROR", "timestamp")
    await assert_nothing_stored(gateway)
    with gateway.answers.watch("drone-1") as partition:
        assert partition._waiting == {}


async def test_frames_beyond_max_waiting_are_overloaded(tmp_path: Path) -> None:
    settings = GatewaySettings(answer_timeout_s=5.0, max_waiting=50)
    async with running(tmp_path, settings) as gateway:
        waiting = [asyncio.create_task(detect(gateway, jpeg(seed=seed))) for seed in range(25)]
        await until(lambda: _waiting(gateway) == 25)
        body = assert_error(await detect(gateway, jpeg(seed=99)), 503, "OVERLOADED")
        assert "waits for 25 frames" in body["message"]
        await until(lambda: len(gateway.stored()) == 25)
        gateway.answers.stop_waiting()
        assert [response.status for response in await asyncio.gather(*waiting)] == [202] * 25
        assert _waiting(gateway) == 0


def _waiting(gateway: Gateway) -> int:
    return gateway.answers.places._devices["drone-1"]


async def test_broker_that_fails_is_503_and_nothing_waits(gateway: Gateway) -> None:
    gateway.publisher.fault = BrokerUnavailableError("kafka-7.internal is away")
    body = assert_error(await detect(gateway), 503, "BROKER_UNAVAILABLE")
    assert "kafka-7" not in str(body)
    with gateway.answers.watch("drone-1") as partition:
        assert partition._waiting == {}
    gateway.publisher.fault = None
    async with detecting(gateway.broker):
        assert (await detect(gateway)).status == 200


@pytest.mark.parametrize("end", ["reset", "close"])
async def test_client_that_disconnects_frees_its_place_and_its_frame_stays(gateway: Gateway, end: str) -> None:
    counted = {"method": "POST", "endpoint": DETECT, "status": "499"}
    before = REGISTRY.get_sample_value("http_requests_total", counted) or 0.0
    head = f"X-API-Token: {TOKEN}\r\nContent-Length: {len(FRAME)}\r\n"
    raw = await gateway.raw(head, FRAME, path=DETECT)
    await until(lambda: len(gateway.stored()) == 1 and _waiting(gateway) == 1)
    if end == "reset":
        raw.reset()
    else:
        # Its system ends the sending side only, as of a client that waits, until something is sent to it.
        raw.writer.close()
    await until(lambda: _waiting(gateway) == 0)
    assert len(await gateway.records()) == 1
    await until(lambda: (REGISTRY.get_sample_value("http_requests_total", counted) or 0.0) == before + 1)
    async with detecting(gateway.broker):
        assert (await detect(gateway)).status == 200


async def test_client_that_only_ends_its_sending_side_gets_the_detections(gateway: Gateway) -> None:
    head = f"X-API-Token: {TOKEN}\r\nContent-Length: {len(FRAME)}\r\n"
    raw = await gateway.raw(head, FRAME, path=DETECT)
    raw.writer.write_eof()
    await until(lambda: _waiting(gateway) == 1)
    async with detecting(gateway.broker):
        response = await raw.read_response()
    assert (response.status, response.json["has_detections"]) == (200, True)


async def test_hundred_clients_at_once_get_200_202_429_or_503(gateway: Gateway) -> None:
    """C-S1-117, and "nothing but 200, 202, 429 and 503"."""
    async with detecting(gateway.broker):
        for number in range(3):
            sent = [detect(gateway, jpeg(seed=100 * number + seed)) for seed in range(100)]
            responses = await asyncio.gather(*sent)
            statuses = {response.status for response in responses}
            assert statuses <= {200, 202, 429, 503}
            assert 200 in statuses
            for response in responses:
                if response.status == 503:
                    assert_error(response, 503, "OVERLOADED")
    assert _waiting(gateway) == 0
    with gateway.answers.watch("drone-1") as partition:
        assert partition._waiting == {}

"""I14: known bytes are not sent again; a device asks by digest, and shows that it has what it does not send."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from ingest.settings import GatewaySettings
from schemas.possession import proof_of
from tests.servers.gateway import FRAME, OTHER_TOKEN, PATH, WHEN, Gateway, GatewayResponse, jpeg, running
from tests.servers.gateway_checks import assert_error

KNOWN = f"{PATH}/known"
DETECT = "/api/v1/detect"
DIGEST = sha256(FRAME).hexdigest()
OTHER = jpeg(seed=2)
LATER = "2026-01-31T12:00:01.000000Z"


async def ask(gateway: Gateway, *digests: object) -> GatewayResponse:
    return await gateway.send(json.dumps(digests).encode(), path=KNOWN, params={})


async def send_by_digest(
    gateway: Gateway, image: bytes = FRAME, when: str = LATER, proof: str | None = None, **fields: str
) -> GatewayResponse:
    params = {"captured_at": when, "sha256": sha256(image).hexdigest(), "proof": proof or proof_of(image)}
    return await gateway.send(b"", params=params | fields)


async def test_a_known_image_is_sent_by_its_digest(gateway: Gateway) -> None:
    first = await gateway.send()
    absent = sha256(OTHER).hexdigest()
    response = await ask(gateway, absent, DIGEST, DIGEST)
    assert (response.status, response.json) == (200, {"known": [DIGEST]})
    again = await send_by_digest(gateway, when=WHEN)
    assert again.status == 202
    assert {**again.json, "received_at": ""} == {**first.json, "received_at": ""}
    later = await send_by_digest(gateway, flight="north")
    assert later.json["image"] == first.json["image"]
    assert later.json["frame_id"] != first.json["frame_id"]
    assert len(await gateway.records()) == 3
    assert len(gateway.stored()) == 1


async def test_a_digest_without_the_image_attaches_nothing(gateway: Gateway) -> None:
    """Another device that knows the digest, from an event or a log, has not the image."""
    await gateway.send(token=OTHER_TOKEN)
    assert_error(await send_by_digest(gateway, proof=DIGEST), 404, "IMAGE_NOT_STORED", "sha256")
    wrong = proof_of(OTHER)
    stored = assert_error(await send_by_digest(gateway, proof=wrong), 404, "IMAGE_NOT_STORED", "sha256")
    absent = assert_error(await send_by_digest(gateway, OTHER, proof=wrong), 404, "IMAGE_NOT_STORED", "sha256")
    assert stored["message"].replace(DIGEST, "") == absent["message"].replace(sha256(OTHER).hexdigest(), "")
    without = await gateway.send(b"", params={"captured_at": WHEN, "sha256": DIGEST})
    assert (
        "does not say that the device has the image"
        in assert_error(without, 400, "VALIDATION_ERROR", "proof")["message"]
    )
    assert len(await gateway.records()) == 1
    assert (await send_by_digest(gateway)).status == 202


async def test_the_same_checks_are_made_as_for_bytes(gateway: Gateway) -> None:
    await gateway.send()
    assert_error(await send_by_digest(gateway, when="2999-01-01T00:00:00Z"), 400, "INVALID_CAPTURE_TIME", "captured_at")
    no_time = await gateway.send(b"", params={"sha256": DIGEST, "proof": proof_of(FRAME)})
    assert_error(no_time, 400, "INVALID_CAPTURE_TIME", "captured_at")
    assert_error(await send_by_digest(gateway, device_id="drone-2"), 403, "ACCESS_DENIED", "device_id")
    text = b"stored by someone else"
    await gateway.store.put(text, sha256=sha256(text).hexdigest(), media_type="image/jpeg")
    assert_error(await send_by_digest(gateway, text), 400, "INVALID_FORMAT", "image")
    assert len(await gateway.records()) == 1


async def test_a_digest_beside_an_image_is_compared(gateway: Gateway) -> None:
    params = {"captured_at": WHEN, "sha256": DIGEST}
    assert "other file" not in assert_error(await gateway.send(OTHER, params=params), 400, "DIGEST_MISMATCH", "sha256")
    assert gateway.stored() == []
    assert (await gateway.send(FRAME, params=params)).status == 202
    short = {"captured_at": WHEN, "sha256": DIGEST[:63]}
    assert_error(await gateway.send(FRAME, params=short), 400, "VALIDATION_ERROR", "sha256")


async def test_an_image_used_again_is_kept_and_a_removed_one_is_asked_for(gateway: Gateway) -> None:
    await gateway.send()
    (path,) = gateway.stored()
    then = time.time() - 2 * 86_400
    os.utime(path, (then, then))
    cutoff = datetime.now(UTC) - timedelta(days=1)
    assert (await send_by_digest(gateway)).status == 202
    assert await gateway.store.delete_older(path.as_uri(), cutoff) is False
    assert (await ask(gateway, DIGEST)).json == {"known": [DIGEST]}
    os.utime(path, (then, then))
    assert await gateway.store.delete_older(path.as_uri(), cutoff) is True
    assert_error(await send_by_digest(gateway), 404, "IMAGE_NOT_STORED", "sha256")
    assert (await ask(gateway, DIGEST)).json == {"known": []}
    path.write_bytes(b"damaged" + FRAME[7:])
    assert_error(await send_by_digest(gateway), 404, "IMAGE_NOT_STORED", "sha256")


async def test_a_wrong_question_is_refused(gateway: Gateway) -> None:
    for body, why in (
        (b"", "not JSON"),
        (b'{"sha256": []}', "JSON list"),
        (b'["../../etc/passwd"]', "64 lower-case"),
        (b'["' + DIGEST.upper().encode() + b'"]', "64 lower-case"),
        (b"[[" * 500, "not JSON"),
        (b"[[], {}, 5, null]", "64 lower-case"),
        (json.dumps([f"{n:064x}" for n in range(1_001)]).encode(), "1001 digests; at most 1000"),
    ):
        response = await gateway.send(body, path=KNOWN, params={})
        assert response.status == 400, body[:50]
        assert why in response.json["message"]
    assert_error(await gateway.send(bytes(100_000), path=KNOWN, params={}), 400, "FILE_TOO_LARGE")
    assert (await gateway.send(b"[]", path=KNOWN, params={}, token="wrong")).status == 401
    assert (await ask(gateway)).json == {"known": []}
    gateway.frames.rename(gateway.frames.with_name("away"))
    response = await ask(gateway, DIGEST)
    assert (response.status, response.json["error_code"]) == (503, "STORAGE_UNAVAILABLE")
    assert "Retry-After" in response.headers


async def test_a_known_flight_costs_less_than_a_hundredth_of_its_bytes(gateway: Gateway) -> None:
    images = [jpeg(1_000, 800, seed=seed) for seed in range(5)]
    for number, image in enumerate(images):
        await gateway.send(image, params={"captured_at": f"2026-01-31T12:00:0{number}Z"})
    digests = [sha256(image).hexdigest() for image in images]
    response = await ask(gateway, *digests)
    assert response.json["known"] == digests
    spent = len(json.dumps(digests)) + len(response.body)
    for number, image in enumerate(images):
        response = await send_by_digest(gateway, image, f"2026-01-31T12:00:0{number}Z")
        # The head of a request and of a response have some 400 bytes each.
        spent += len(response.body) + 2 * 400
    assert spent < 0.01 * sum(map(len, images))


@pytest.mark.parametrize("path", [PATH, DETECT])
async def test_digests_can_be_turned_off(tmp_path: Path, path: str) -> None:
    async with running(tmp_path, GatewaySettings(digests_enabled=False)) as gateway:
        await gateway.send()
        assert (await ask(gateway, DIGEST)).status == 404
        params = {"captured_at": WHEN, "sha256": DIGEST, "proof": proof_of(FRAME)}
        response = await gateway.send(b"", params=params, path=path)
        assert "digests_enabled" in assert_error(response, 400, "VALIDATION_ERROR", "sha256")["message"]

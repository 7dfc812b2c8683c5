"""A frame whose response was lost is sent again with `repeated`, and is announced once."""

from __future__ import annotations

import pytest

from infra.errors import BrokerUnavailableError
from ingest.stream.recent_frames import RecentFrames
from schemas.topics import FRAMES_BACKFILL, FRAMES_LIVE
from tests.harnesses.stream_client import frame, moment, open_stream
from tests.servers.gateway import WHEN, Gateway
from tests.servers.gateway_checks import assert_error

REPEATED = {"captured_at": WHEN, "repeated": "true"}


async def counts(gateway: Gateway) -> tuple[int, int]:
    return len(await gateway.records(FRAMES_LIVE)), len(await gateway.records(FRAMES_BACKFILL))


async def test_repeated_frame_has_the_same_response_and_is_announced_once(gateway: Gateway) -> None:
    first = await gateway.send()
    again = await gateway.send(params=REPEATED)
    later = await gateway.send(params={**REPEATED, "priority": "backfill"})
    assert [each.status for each in (first, again, later)] == [202, 202, 202]
    assert first.json["frame_id"] == again.json["frame_id"] == later.json["frame_id"]
    assert await counts(gateway) == (1, 0)


async def test_repeated_frame_that_never_arrived_is_announced(gateway: Gateway) -> None:
    assert (await gateway.send(params=REPEATED)).status == 202
    assert await counts(gateway) == (1, 0)
    assert (await gateway.send()).status == 202
    assert await counts(gateway) == (2, 0), "without the field it is announced again, as ever"


async def test_repeated_frame_waits_until_the_topic_can_be_read(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(self: RecentFrames, device_id: str) -> None:
        raise TimeoutError

    monkeypatch.setattr(RecentFrames, "read", fail)
    assert_error(await gateway.send(params=REPEATED), 503, BrokerUnavailableError.code)
    assert await counts(gateway) == (0, 0)


async def test_repeated_takes_true_and_false_only(gateway: Gateway) -> None:
    assert_error(await gateway.send(params={**REPEATED, "repeated": "yes"}), 400, "VALIDATION_ERROR", "repeated")


async def test_stream_finds_a_repeated_frame_that_was_sent_by_a_request_meanwhile(gateway: Gateway) -> None:
    async with open_stream(gateway.port) as stream:
        await stream.send(1, 2)
        await stream.answers(2)
        assert (await gateway.send(params={"captured_at": moment(3)})).status == 202
        await stream.socket.send(frame(3, priority="backfill", repeated="true"))
        assert await stream.answers(1) == [("ack", 3)]
    assert await counts(gateway) == (3, 0)

"""Keeps a limited part of a camera's stream: by seconds, by bytes, up to key frames, and with the error at its end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from ingest.video.lag import LagLimits, PacketQueue, StreamPacket

PICTURES, TELEMETRY = 0, 1


@dataclass(frozen=True, slots=True)
class Packet:
    number: int
    size: int = 100
    stream_index: int = PICTURES
    is_keyframe: bool = False


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Stream:
    """Puts packets as a camera sends them: ten a second, a key frame each ten."""

    def __init__(self, seconds: float, size_bytes: int = 1_000_000) -> None:
        self.clock = Clock()
        self.skipped: list[int] = []
        self.number = 0
        limits = LagLimits(seconds, size_bytes)
        moment = datetime(2026, 5, 1, tzinfo=UTC)
        self.queue = PacketQueue(
            lambda: iter(()), PICTURES, limits, self.skipped.append, now=lambda: moment, steady=self.clock
        )

    def send(self, count: int, keys: int = 10) -> None:
        for _ in range(count):
            is_key = bool(keys) and self.number % keys == 0
            self.queue.put(Packet(self.number, is_keyframe=is_key))
            self.number += 1
            self.clock.now_s += 0.1

    def rest(self) -> list[tuple[int, bool]]:
        """Take what waits: numbers, and whether packets before them were left out."""
        self.queue.start()
        found = [(each.packet, each.is_after_gap) for each in self.queue]
        return [(packet.number, gap) for packet, gap in found if isinstance(packet, Packet)]


def test_nothing_is_left_out_within_the_limits() -> None:
    stream = Stream(seconds=5)
    stream.send(40)
    assert stream.queue.lag_s() == pytest.approx(4.0)
    assert [number for number, _ in stream.rest()] == list(range(40))
    assert stream.skipped == []


def test_the_oldest_are_left_out_up_to_a_key_frame_and_counted() -> None:
    stream = Stream(seconds=5)
    stream.send(100)
    rest = stream.rest()
    assert rest[0] == (50, True)
    assert [number for number, _ in rest] == list(range(50, 100))
    assert sum(stream.skipped) == 50
    assert [gap for _, gap in rest[1:]] == [False] * 49


def test_bytes_are_limited() -> None:
    stream = Stream(seconds=60, size_bytes=2_000)
    stream.send(95)
    assert [number for number, _ in stream.rest()] == list(range(80, 95))
    assert sum(stream.skipped) == 80


def test_after_a_group_longer_than_the_limit_the_next_key_frame_is_waited_for() -> None:
    stream = Stream(seconds=60, size_bytes=2_000)
    stream.send(70, keys=50)
    assert stream.rest() == [(50, True), *((number, False) for number in range(51, 70))]
    assert sum(stream.skipped) == 50


def test_a_camera_without_key_frames_is_read_on_after_the_limit() -> None:
    stream = Stream(seconds=2)
    stream.send(60, keys=0)
    rest = stream.rest()
    assert rest
    assert len(rest) + sum(stream.skipped) == 60


def test_packets_of_other_streams_are_left_out_with_the_pictures_and_not_counted() -> None:
    stream = Stream(seconds=1)
    stream.send(1)
    stream.queue.put(Packet(-1, stream_index=TELEMETRY))
    stream.send(20, keys=1)
    assert all(number >= 0 for number, _ in stream.rest())
    assert sum(stream.skipped) == 11


def test_packets_read_ahead_count_toward_the_limits() -> None:
    stream = Stream(seconds=3)
    stream.send(20)
    stream.queue.start()
    taken = iter(stream.queue)
    stream.queue.put_back([next(taken) for _ in range(15)])
    stream.send(30)
    first = next(taken)
    assert isinstance(first.packet, Packet)
    assert first.packet.number == 20
    assert sum(stream.skipped) == 20


def test_the_error_of_the_input_comes_after_its_packets() -> None:
    def packets() -> Iterator[StreamPacket]:
        yield Packet(0, is_keyframe=True)
        raise ConnectionResetError("gone")

    moment = datetime(2026, 5, 1, tzinfo=UTC)
    queue = PacketQueue(packets, PICTURES, LagLimits(5, 1_000), lambda _: None, now=lambda: moment)
    queue.start()
    taken = iter(queue)
    assert next(taken).packet.size == 100
    with pytest.raises(ConnectionResetError, match="gone"):
        next(taken)
    queue.join()

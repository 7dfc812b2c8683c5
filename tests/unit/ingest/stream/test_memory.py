"""The memory of a stream: reserved before a frame is received, and given back whatever becomes of it."""

from __future__ import annotations

from infra.http_api.limits.slots import UploadSlots
from infra.process.websocket_flow import MessageGate, MessageLimits
from ingest.stream.memory import FrameMemory
from ingest.stream.wire import Window


class Flow:
    def __init__(self) -> None:
        self.failed: list[int] = []

    def set_gate(self, gate: MessageGate, limits: MessageLimits) -> None:
        raise NotImplementedError

    def stop_reading(self) -> None:
        raise NotImplementedError

    def fail(self, code: int, reason: str) -> None:
        self.failed.append(code)


WINDOW = Window(4, 1_000)


def memory(slots: UploadSlots, window: Window = WINDOW, most: int = 500) -> tuple[FrameMemory, Flow]:
    flow = Flow()
    return FrameMemory(slots, "d", window, most, flow), flow


def test_memory_of_a_frame_is_given_back_when_it_is_stored() -> None:
    slots = UploadSlots(8, 10_000, "a.setting")
    one, flow = memory(slots)
    assert one.begin(100)
    slot = one.arrived(100)
    assert slot is not None and one.unanswered == (1, 100)
    assert slots.share("e") == (3, 4_950)
    one.free(slot)
    one.answered(100)
    assert slots.share("e") == (4, 5_000) and one.unanswered == (0, 0) and flow.failed == []


def test_frame_in_several_pieces_reserves_the_most_until_it_is_complete() -> None:
    slots = UploadSlots(8, 10_000, "a.setting")
    one, _ = memory(slots)
    assert one.begin(None)
    assert slots.share("e") == (3, 4_750)
    assert one.arrived(100) is not None
    assert slots.share("e") == (3, 4_950)


def test_frames_in_several_pieces_cost_no_credits_beyond_their_size() -> None:
    one, flow = memory(UploadSlots(100, 100_000, "a.setting"))
    assert [one.begin(None) for _ in range(4)] == [True] * 4
    assert flow.failed == []


def test_frames_beyond_the_window_end_the_stream() -> None:
    one, flow = memory(UploadSlots(100, 100_000, "a.setting"))
    assert [one.begin(100) for _ in range(5)] == [True] * 4 + [False]
    assert flow.failed == [4429]
    two, flow = memory(UploadSlots(100, 100_000, "a.setting"))
    assert [two.begin(500) for _ in range(3)] == [True, True, False]
    assert flow.failed == [4429]


def test_frame_waits_while_the_device_has_its_share() -> None:
    one, flow = memory(UploadSlots(2, 10_000, "a.setting"))
    assert one.begin(100) and not one.begin(100)
    assert flow.failed == []


def test_another_device_takes_the_place_of_a_frame_that_arrives() -> None:
    slots = UploadSlots(4, 1_000, "a.setting")
    one, flow = memory(slots, Window(4, 2_000), most=400)
    assert one.begin(200) and one.begin(200)
    assert slots.take(700, "other").size_bytes == 700
    assert flow.failed == [1013]
    # Its end gives back the rest, and nothing twice.
    one.close()
    assert slots.share("third") == (1, 150)


def test_credits_are_shares_of_the_free_memory() -> None:
    slots = UploadSlots(8, 10_000, "a.setting")
    one, _ = memory(slots, Window(16, 8_000))
    assert one.window(1) == (4, 5_000) and one.window(4) == (1, 1_250)
    for number in range(8):
        slots.take(1_000, f"device-{number}")
    # One frame may always be sent.
    assert one.window(1) == (1, 1_000)

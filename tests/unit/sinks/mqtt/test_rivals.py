"""Two processes of one client id are not ready, although events get through between two ends of a connection."""

from __future__ import annotations

from infra.process.health import Health
from sinks.mqtt.rivals import Rivals


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_reason_is_held_from_third_end_until_a_minute_without_one() -> None:
    clock = _Clock()
    part = Health().part("sink.mqtt-rivals")
    part.set_ready()
    rivals = Rivals(part, clock)
    for _ in range(2):
        rivals.note_end("client id 'a'")
        clock.now += 2
    assert part.reason is None
    rivals.note_end("client id 'a'")
    assert part.reason == "connections end again and again: client id 'a'"
    clock.now += 59
    rivals.look()
    assert part.reason is not None
    clock.now += 2
    rivals.look()
    assert part.reason is None


def test_seldom_ends_and_a_broker_that_is_away_give_no_reason() -> None:
    clock = _Clock()
    part = Health().part("sink.mqtt-no-rivals")
    part.set_ready()
    rivals = Rivals(part, clock)
    for _ in range(5):
        rivals.note_end("closed")
        clock.now += 31
    for _ in range(5):
        rivals.note_end("closed")
        rivals.note_no_broker()
    assert part.reason is None

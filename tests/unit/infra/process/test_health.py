"""Health parts: ready, waiting, silent, hanging, and their notes."""

from __future__ import annotations

import asyncio

from prometheus_client import REGISTRY

from infra.process.health import Health


def test_health_part_is_not_ready_before_set_ready() -> None:
    health = Health()
    part = health.part("test-part")
    assert health.part("test-part") is part
    assert (health.report().live, health.report().ready) == (True, False)
    assert REGISTRY.get_sample_value("standgale_ready", {"part": "test-part"}) == 0
    part.set_ready()
    assert health.report().ready
    assert REGISTRY.get_sample_value("standgale_ready", {"part": "test-part"}) == 1
    part.set_not_ready("database away")
    assert health.report().parts["test-part"].reason == "database away"
    assert health.report().live


def test_a_part_that_falls_silent_is_not_live() -> None:
    now = 100.0
    health = Health(silence_s=30, clock=lambda: now)
    quiet, chatty = health.part("test-quiet"), health.part("test-chatty")
    quiet.set_ready()
    chatty.set_ready()
    chatty.beat()
    now = 131.0
    assert health.report().parts["test-quiet"].failure is None
    assert health.report().parts["test-chatty"].failure == "no sign of life for 31 s"
    assert not health.report().live
    assert not health.report().ready
    chatty.beat_if_expected()
    quiet.beat_if_expected()
    assert health.report().ready
    chatty.set_done()
    now = 500.0
    assert health.report().live


def test_a_part_that_waits_for_several_things_names_them_all() -> None:
    health = Health()
    part = health.part("test-waits")
    part.set_waiting("reading", "broker away")
    part.set_waiting("writing", "database away")
    assert part.reason == "broker away; database away"
    part.set_ready()
    assert not health.report().ready
    part.clear_waiting("reading")
    assert part.reason == "database away"
    part.set_not_ready("draining")
    assert part.reason == "database away; draining"
    part.set_ready()
    part.clear_waiting("writing")
    assert health.report().ready


def test_part_with_set_hanging_is_not_live_until_clear_waiting() -> None:
    health = Health(silence_s=30)
    part = health.part("test-hangs")
    part.set_ready()
    part.set_hanging("engine", "no batch for 31 s")
    assert health.report().parts["test-hangs"].failure == part.reason == "no batch for 31 s"
    assert not health.report().live
    part.clear_waiting("engine")
    assert health.report().ready
    part.set_hanging("engine", "no batch for 31 s")
    part.set_done()
    assert health.report().live


def test_notes_are_joined_and_do_not_change_readiness() -> None:
    part = Health().part("test-notes")
    part.set_ready()
    part.set_note("models", "small 1.0.0")
    part.set_note("clock", "6 s ahead")
    assert (part.report().ready, part.report().note) == (True, "small 1.0.0; 6 s ahead")
    part.set_note("models", None)
    part.set_note("models", None)
    assert part.report().note == "6 s ahead"


def test_the_readiness_metric_follows_silence() -> None:
    now = 100.0
    part = Health(silence_s=30, clock=lambda: now).part("test-hanging")
    part.set_ready()
    part.beat()
    assert REGISTRY.get_sample_value("standgale_ready", {"part": "test-hanging"}) == 1
    now = 131.0
    assert REGISTRY.get_sample_value("standgale_ready", {"part": "test-hanging"}) == 0
    part.beat()
    assert REGISTRY.get_sample_value("standgale_ready", {"part": "test-hanging"}) == 1


async def test_a_long_pause_is_no_silence_and_ends_with_the_process() -> None:
    health, stop = Health(silence_s=0.2), asyncio.Event()
    part = health.part("test-pausing")
    part.beat()
    pausing = asyncio.create_task(part.pause(3_600.0, stop))
    for _ in range(10):
        await asyncio.sleep(0.05)
        assert health.report().live
    stop.set()
    await asyncio.wait_for(pausing, 5)
    await part.pause(0.01, asyncio.Event())

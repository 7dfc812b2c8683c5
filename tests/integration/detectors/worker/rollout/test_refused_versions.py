"""A version that does not load or does not fit is refused, and the former one continues."""

from __future__ import annotations

import pytest

from detectors.worker.rollout.activation import (
    activate_model,
)
from tests.harnesses.model_versions import write_version
from tests.harnesses.worker_fleet import ORDER, SCORES, Fleet, break_version, ref, versions


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("checksum", "SHA-256"),
        ("corrupt", "ONNX"),
        ("nan", "first run"),
        ("extra_class", "classes"),
        ("missing", "has no rectangles 3.0.0"),
        ("other_name", "gave other"),
        ("changed", "versions must not change"),
    ],
)
async def test_broken_version_is_refused_and_the_old_one_stays(fleet: Fleet, fault: str, words: str) -> None:
    site = fleet.site
    wanted = break_version(fleet, fault)
    frames = [await site.frame("drone", number) for number in range(4)]
    async with site.run_workers(fleet.parts("a")):
        await fleet.wait_for_outcome("done", await fleet.activate("2.0.0"))
        await site.publish(*frames[:2])
        await site.wait_for(site.detections, 2)
        activation = activate_model(ORDER, fleet.current, ref("3.0.0"), wanted)
        await fleet.wait_for_outcome("refused", await fleet.publish_activation(activation))
        report = await fleet.report("a")
        assert report.state == "warning"
        by_version = {one.model.version: one for one in report.models}
        assert words in (by_version["3.0.0"].detail or "")
        assert (by_version["3.0.0"].serving, by_version["2.0.0"].serving) == (False, True)
        assert by_version["2.0.0"].role == "former"
        assert site.health.report().ready
        assert "3.0.0 warning" in (site.health.part("worker-0").report().note or "")
        await site.publish(*frames[2:])
        await site.wait_for(site.detections, 4)
        # A later activation repairs: the version as it should be, under the same name.
        write_version(fleet.models, "3.0.0", SCORES["3.0.0"])
        await fleet.wait_for_outcome("done", await fleet.activate("3.0.0"))
        assert (await fleet.report("a")).state == "enabled"
    events = await fleet.check(frames)
    assert versions(events) == {"2.0.0": 4}


async def test_refused_canary_leaves_all_frames_to_the_stable_version(fleet: Fleet) -> None:
    site = fleet.site
    frames = [await site.frame("drone", number) for number in range(5)]
    async with site.run_workers(fleet.parts("a")):
        break_version(fleet, "nan")
        await fleet.wait_for_outcome("refused", await fleet.start_canary("3.0.0", share=1.0))
        await site.publish(*frames)
        await site.wait_for(site.detections, 5)
    assert versions(await fleet.check(frames)) == {"1.0.0": 5}

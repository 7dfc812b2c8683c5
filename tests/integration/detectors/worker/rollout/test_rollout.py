"""Rolling a version out to running workers: each frame once, by the version its answer names, whatever happens."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import pytest

from detectors.errors import ModelLoadError
from detectors.metrics import MODEL_STATE, MODEL_SWAPS
from detectors.model.loading import LoadRequest, load_model
from detectors.model.predict import Model
from detectors.settings import DetectorSettings
from detectors.worker.frames.lateness import backfill_copy
from detectors.worker.pipeline.serving import frame_fraction
from detectors.worker.rollout.activation import (
    ActivationRequest,
    activate_model,
    roll_back_activation,
    rollout_progress,
    start_canary,
)
from detectors.worker.rollout.model_loader import ModelSource, OnState
from detectors.worker.rollout.models_topic import ModelsState, activation_record, availability_key, read_models
from detectors.worker.worker import WorkerParts
from infra.broker.kafka.adapter import KafkaBroker
from infra.broker.port import Broker, OutRecord
from infra.deploy.kafka import KafkaServer
from schemas import topics
from schemas.events import Canary, DetectionsMade, FrameCaptured, ModelActivated, ModelRef, WorkerAvailability
from schemas.timestamps import utc_now
from schemas.topics import TopicSpec
from tests.support_graphs import GraphSpec, write_model
from tests.support_kafka import kafka_settings, require_kafka_tools
from tests.support_versions import NAME, ShelfStore, write_version
from tests.support_worker import WorkerWorld

pytestmark = pytest.mark.integration

SCORES = {"1.0.0": 1.0, "2.0.0": 0.8, "3.0.0": 0.6}
TIMEOUT_S = 30.0
ORDER = ActivationRequest("default", "test")


def ref(version: str) -> ModelRef:
    return ModelRef(name=NAME, version=version)


@dataclass
class Fleet:
    """Workers whose own setting names version 1.0.0, and a store with the others."""

    world: WorkerWorld
    store: ShelfStore
    folder: Path
    shelf: Path
    current: ModelActivated | None = None

    def parts(self, name: str, **changes: object) -> WorkerParts:
        own = self.shelf / NAME / "1.0.0" / "model.yaml"
        source = ModelSource(self.store, self.folder / f"cache-{name}", self.load)
        given: dict[str, object] = {
            "load_model": partial(self.load, own),
            "models": source,
            "instance_id": name,
            "settings": DetectorSettings(report_interval_s=0.5),
        }
        return self.world.parts(**(given | changes))

    def load(self, card: Path, busy: bool = False) -> Model:
        return load_model(LoadRequest(card, "onnxruntime", 1))

    async def say(self, activation: ModelActivated) -> ModelActivated:
        await self.world.publish_records(activation_record(activation))
        self.current = activation
        return activation

    async def activate(self, version: str) -> ModelActivated:
        return await self.say(activate_model(ORDER, self.current, ref(version), None))

    async def try_out(self, version: str, share: float = 0, devices: list[str] | None = None) -> ModelActivated:
        canary = Canary(model=ref(version), share=share, devices=devices or [])
        return await self.say(start_canary(ORDER, self.current, canary))

    async def state(self) -> ModelsState:
        reader = await self.world.broker.reader()
        state = await read_models(reader)
        await reader.close()
        return state

    async def report(self, worker: str) -> WorkerAvailability:
        return (await self.state()).workers[availability_key("default", worker)]

    async def until(self, wanted: str, activation: ModelActivated, workers: int = 1) -> None:
        """All ``workers`` are through with ``activation``, with the outcome ``wanted``."""
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            found = rollout_progress(await self.state(), activation, utc_now())
            if found.outcome == wanted and len(found.ready) + len(found.refused) >= workers:
                return
            assert time.monotonic() < deadline, f"{found} after {TIMEOUT_S} s, {wanted} was wanted"
            await asyncio.sleep(0.05)

    async def until_told(self, worker: str, wanted: Callable[[WorkerAvailability], bool]) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not wanted(told := await self.report(worker)):
            assert time.monotonic() < deadline, f"{told} after {TIMEOUT_S} s"
            await asyncio.sleep(0.05)

    async def check(self, frames: list[FrameCaptured]) -> list[DetectionsMade]:
        """Each of ``frames`` is answered once, in its device's order, and by the version that its answer names."""
        answers = await self.world.answers()
        assert Counter(answer.frame_id for answer in answers) == Counter(frame.frame_id for frame in frames)
        assert await self.world.letters() == []
        for device in {frame.device_id for frame in frames}:
            wanted = [frame.frame_id for frame in frames if frame.device_id == device]
            assert [answer.frame_id for answer in answers if answer.device_id == device] == wanted
        for answer in answers:
            check_version(answer)
        return answers


def check_version(answer: DetectionsMade) -> None:
    """The score is the one that the named version gives: another version's graph gives another one."""
    (found,) = answer.detections
    assert found.confidence == pytest.approx(0.9 * SCORES[answer.model.version], abs=1e-5), answer.model


def versions(answers: list[DetectionsMade]) -> Counter[str]:
    return Counter(answer.model.version for answer in answers)


def swaps(result: str) -> float:
    (family,) = MODEL_SWAPS.collect()
    return sum(
        sample.value for sample in family.samples if sample.labels.get("result") == result and "_total" in sample.name
    )


async def fleet_in(folder: Path, world: WorkerWorld) -> Fleet:
    shelf = folder / "shelf"
    for version, factor in SCORES.items():
        write_version(shelf, version, factor)
    return Fleet(world, ShelfStore(shelf), folder, shelf)


@pytest.fixture
async def fleet(tmp_path: Path, world: WorkerWorld) -> Fleet:
    return await fleet_in(tmp_path, world)


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[KafkaServer]:
    """A broker of the test's own: the topics have the names that production has."""
    require_kafka_tools()
    with KafkaServer(tmp_path / "kafka") as server:
        yield server


@pytest.fixture(params=["embedded", "kafka"])
async def any_fleet(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Fleet]:
    def kafka(declared: dict[str, TopicSpec]) -> Broker:
        return KafkaBroker(kafka_settings(request.getfixturevalue("own_kafka")), declared)

    async with AsyncExitStack() as stack:
        world = WorkerWorld(tmp_path, kafka if request.param == "kafka" else None)
        stack.push_async_callback(world.close)
        admin = await world.broker.admin()
        await admin.apply(world.topics.values())
        assert await admin.check(world.topics.values()) == []
        await admin.close()
        yield await fleet_in(tmp_path, world)


async def test_a_roll_out_under_load_loses_doubles_and_mislabels_nothing(any_fleet: Fleet) -> None:
    fleet, world = any_fleet, any_fleet.world
    frames = [await world.frame(f"drone-{n % 6}", n) for n in range(300)]
    async with world.working(fleet.parts("a"), fleet.parts("b")):
        publisher = await world.broker.publisher()
        activation: ModelActivated | None = None
        for number, frame in enumerate(frames):
            if number == 120:
                # On a busy machine workers may still be joining; what waits then would be the new version's to answer.
                await world.until(world.answers, 100)
                activation = await fleet.activate("2.0.0")
            await publisher.publish([world.record(frame)])
            await asyncio.sleep(0.01)
            if number == 250:
                assert activation is not None
                await fleet.until("done", activation, workers=2)
        await publisher.close()
        await world.until(world.answers, len(frames))
    answers = await fleet.check(frames)
    assert versions(answers)["1.0.0"] >= 100
    assert versions(answers)["2.0.0"] >= 45
    # The partitions of a worker change over at one moment; within a device no frame goes back.
    for device in {frame.device_id for frame in frames}:
        order = [answer.model.version for answer in answers if answer.device_id == device]
        assert order == sorted(order), device


async def test_rolling_back_returns_to_what_was_before(fleet: Fleet) -> None:
    world = fleet.world
    frames = [await world.frame("drone", number) for number in range(3)]
    async with world.working(fleet.parts("a")):
        await fleet.until("done", await fleet.activate("2.0.0"))
        await world.publish(frames[0])
        await world.until(world.answers, 1)
        # There was no activation before, so it is the worker's own setting that comes back.
        await fleet.until("done", await fleet.say(roll_back_activation(ORDER, fleet.current)))
        await world.publish(frames[1])
        await world.until(world.answers, 2)
        await fleet.until("done", await fleet.say(roll_back_activation(ORDER, fleet.current)))
        await world.publish(frames[2])
        await world.until(world.answers, 3)
    answers = await fleet.check(frames)
    assert [answer.model.version for answer in answers] == ["2.0.0", "1.0.0", "2.0.0"]


async def test_a_version_is_tried_out_on_named_devices_then_promoted_without_loading_it_again(fleet: Fleet) -> None:
    world = fleet.world
    frames = [await world.frame(f"drone-{n % 3}", n) for n in range(12)]
    async with world.working(fleet.parts("a")):
        await fleet.until("done", await fleet.try_out("2.0.0", devices=["drone-1"]))
        await world.publish(*frames[:6])
        await world.until(world.answers, 6)
        asked = fleet.store.asked
        await fleet.until("done", await fleet.activate("2.0.0"))
        assert fleet.store.asked == asked
        await world.publish(*frames[6:])
        await world.until(world.answers, 12)
    by_frame = {answer.frame_id: answer for answer in await fleet.check(frames)}
    for number, frame in enumerate(frames):
        wanted = "2.0.0" if number >= 6 or frame.device_id == "drone-1" else "1.0.0"
        assert by_frame[frame.frame_id].model == ref(wanted), number


async def test_a_share_of_the_frames_is_tried_out_and_always_the_same_frames(fleet: Fleet) -> None:
    world = fleet.world
    frames = [await world.frame(f"drone-{n % 3}", n) for n in range(200)]
    async with world.working(fleet.parts("a")):
        await fleet.until("done", await fleet.try_out("2.0.0", share=0.25))
        await world.publish(*frames)
        await world.until(world.answers, 200)
    answers = await fleet.check(frames)
    expected = {frame.frame_id for frame in frames if frame_fraction(frame.frame_id, ref("2.0.0")) < 0.25}
    assert {answer.frame_id for answer in answers if answer.model.version == "2.0.0"} == expected
    # Four standard deviations of 200 draws at 0.25.
    assert 26 <= len(expected) <= 74


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
async def test_a_broken_version_is_refused_and_the_old_one_goes_on(fleet: Fleet, fault: str, words: str) -> None:
    world = fleet.world
    wanted = break_version(fleet, fault)
    frames = [await world.frame("drone", number) for number in range(4)]
    async with world.working(fleet.parts("a")):
        await fleet.until("done", await fleet.activate("2.0.0"))
        await world.publish(*frames[:2])
        await world.until(world.answers, 2)
        activation = activate_model(ORDER, fleet.current, ref("3.0.0"), wanted)
        await fleet.until("refused", await fleet.say(activation))
        report = await fleet.report("a")
        assert report.state == "warning"
        by_version = {one.model.version: one for one in report.models}
        assert words in (by_version["3.0.0"].detail or "")
        assert (by_version["3.0.0"].serving, by_version["2.0.0"].serving) == (False, True)
        assert by_version["2.0.0"].role == "former"
        assert world.health.report().ready
        assert "3.0.0 warning" in (world.health.part("worker-0").report().note or "")
        await world.publish(*frames[2:])
        await world.until(world.answers, 4)
        # A later activation repairs: the version as it should be, under the same name.
        write_version(fleet.shelf, "3.0.0", SCORES["3.0.0"])
        await fleet.until("done", await fleet.activate("3.0.0"))
        assert (await fleet.report("a")).state == "enabled"
    answers = await fleet.check(frames)
    assert versions(answers) == {"2.0.0": 4}


def break_version(fleet: Fleet, fault: str) -> str | None:
    """Break version 3.0.0 in the store; the checksum to activate it with."""
    folder = fleet.shelf / NAME / "3.0.0"
    if fault == "checksum":
        (folder / "model.onnx").write_bytes((fleet.shelf / NAME / "2.0.0" / "model.onnx").read_bytes())
    elif fault == "corrupt":
        write_version(fleet.shelf, "3.0.0", 0.6)
        broken = b"\x08\x08 this is no model" * 50
        (folder / "model.onnx").write_bytes(broken)
        card = (folder / "model.yaml").read_text().splitlines()
        named = [f"sha256: {sha256(broken).hexdigest()}" if line.startswith("sha256:") else line for line in card]
        (folder / "model.yaml").write_text("\n".join(named))
    elif fault in ("nan", "extra_class"):
        write_model(folder, GraphSpec(fault=fault), version="3.0.0")  # type: ignore[arg-type]
    elif fault == "missing":
        folder.rename(fleet.folder / "gone")
    elif fault == "other_name":
        text = (folder / "model.yaml").read_text()
        (folder / "model.yaml").write_text(text.replace(f"name: {NAME}", "name: other"))
    return "0" * 64 if fault == "changed" else None


async def test_a_refused_trial_leaves_all_frames_to_the_stable_version(fleet: Fleet) -> None:
    world = fleet.world
    frames = [await world.frame("drone", number) for number in range(5)]
    async with world.working(fleet.parts("a")):
        break_version(fleet, "nan")
        await fleet.until("refused", await fleet.try_out("3.0.0", share=1.0))
        await world.publish(*frames)
        await world.until(world.answers, 5)
    assert versions(await fleet.check(frames)) == {"1.0.0": 5}


async def test_a_frame_that_stands_twice_is_answered_once_across_a_swap(fleet: Fleet) -> None:
    world = fleet.world
    twice, marker = await world.frame("drone", 1), await world.frame("drone", 2)
    async with world.working(fleet.parts("a")):
        await world.publish(twice)
        await world.until(world.answers, 1)
        await fleet.until("done", await fleet.activate("2.0.0"))
        await world.publish(twice, marker)
        await world.until(world.answers, 2)
    # Another worker, which knows of the first answer only what stands in the topic.
    last = await world.frame("drone", 3)
    await world.publish(twice, last)
    async with world.working(fleet.parts("b")):
        await world.until(world.answers, 3)
    answers = await fleet.check([twice, marker, last])
    assert [answer.model.version for answer in answers] == ["1.0.0", "2.0.0", "2.0.0"]


async def test_a_replay_asks_the_new_version_again(fleet: Fleet) -> None:
    world = fleet.world
    frame = await world.frame("drone", 1)
    async with world.working(fleet.parts("a")):
        await world.publish(frame)
        await world.until(world.answers, 1)
        await fleet.until("done", await fleet.activate("2.0.0"))
        await world.publish(frame, topic=topics.FRAMES_BACKFILL)
        await world.until(world.answers, 2)
    answers = await world.answers()
    assert [answer.model.version for answer in answers] == ["1.0.0", "2.0.0"]
    assert len({answer.id for answer in answers}) == 2


async def test_a_live_frame_that_was_put_off_is_no_replay(fleet: Fleet) -> None:
    world = fleet.world
    frame, marker = await world.frame("drone", 1), await world.frame("drone", 2)
    async with world.working(fleet.parts("a")):
        await world.publish(frame)
        await world.until(world.answers, 1)
        await fleet.until("done", await fleet.activate("2.0.0"))
        live = (await world.read(topics.FRAMES_LIVE))[0]
        await world.publish_records(backfill_copy(live), world.record(marker, topics.FRAMES_BACKFILL))
        await world.until(world.answers, 2)
    assert [answer.model.version for answer in await fleet.check([frame, marker])] == ["1.0.0", "2.0.0"]


async def test_a_job_does_not_take_a_live_frame_s_answer(fleet: Fleet) -> None:
    world = fleet.world
    frame, marker = await world.frame("drone", 1), await world.frame("drone", 2)
    async with world.working(fleet.parts("a")):
        await world.publish(frame.model_copy(update={"job_id": uuid4()}), topic=topics.FRAMES_JOBS)
        await world.until(world.answers, 1)
    async with world.working(fleet.parts("b")):
        await world.publish(frame, marker)
        await world.until(world.answers, 3)
    assert [answer.job_id is None for answer in await world.answers()] == [False, True, True]


async def test_a_worker_starts_with_what_is_activated_and_falls_back_when_that_is_broken(fleet: Fleet) -> None:
    world = fleet.world
    frames = [await world.frame("drone", number) for number in range(3)]
    await fleet.activate("2.0.0")
    async with world.working(fleet.parts("a")):
        await world.publish(frames[0])
        await world.until(world.answers, 1)
    break_version(fleet, "nan")
    third = await fleet.activate("3.0.0")
    async with world.working(fleet.parts("b")):
        await fleet.until("refused", third)
        await world.publish(frames[1])
        await world.until(world.answers, 2)
    break_version(fleet, "checksum")
    (fleet.shelf / NAME / "2.0.0").rename(fleet.folder / "gone")
    async with world.working(fleet.parts("c")):
        await fleet.until("refused", third)
        await world.publish(frames[2])
        await world.until(world.answers, 3)
    answers = await fleet.check(frames)
    assert [answer.model.version for answer in answers] == ["2.0.0", "2.0.0", "1.0.0"]


async def test_a_store_that_is_away_delays_a_roll_out_and_not_the_frames(fleet: Fleet) -> None:
    world = fleet.world
    frames = [await world.frame("drone", number) for number in range(3)]
    async with world.working(fleet.parts("a")):
        await world.publish(frames[2])
        await world.until(world.answers, 1)
        fleet.store.away = True
        activation = await fleet.activate("2.0.0")
        async with asyncio.timeout(TIMEOUT_S):
            await fleet.store.asked_in_vain.wait()
        await world.publish(frames[0])
        await world.until(world.answers, 2)
        report = await fleet.report("a")
        (target,) = (one for one in report.models if one.model == ref("2.0.0"))
        assert (target.state, target.detail) == ("downloading", "the model store does not answer")
        assert world.health.report().ready
        fleet.store.away = False
        await fleet.until("done", activation)
        await world.publish(frames[1])
        await world.until(world.answers, 3)
    answers = await fleet.check([frames[2], *frames[:2]])
    assert [answer.model.version for answer in answers] == ["1.0.0", "1.0.0", "2.0.0"]


async def test_a_worker_that_starts_waits_for_a_store_that_is_away(fleet: Fleet) -> None:
    world = fleet.world
    await fleet.activate("2.0.0")
    fleet.store.away = True
    frame = await world.frame("drone", 1)
    await world.publish(frame)
    async with world.working(fleet.parts("a")):
        async with asyncio.timeout(TIMEOUT_S):
            await fleet.store.asked_in_vain.wait()
        assert not world.health.report().ready
        fleet.store.away = False
        await world.until(world.answers, 1)
    assert versions(await fleet.check([frame])) == {"2.0.0": 1}


async def test_a_worker_that_waits_for_a_store_that_is_away_follows_a_roll_back(fleet: Fleet) -> None:
    world = fleet.world
    second = await fleet.activate("2.0.0")
    fleet.store.away = True
    frame = await world.frame("drone", 1)
    await world.publish(frame)
    async with world.working(fleet.parts("a")):
        async with asyncio.timeout(TIMEOUT_S):
            await fleet.store.asked_in_vain.wait()
        await fleet.until_told("a", lambda told: told.activation == second.id and not told.settled)
        await fleet.until("done", await fleet.say(roll_back_activation(ORDER, fleet.current)))
        await world.until(world.answers, 1)
    assert fleet.store.away
    assert versions(await fleet.check([frame])) == {"1.0.0": 1}


async def test_the_newest_activation_wins_over_one_that_is_under_way(fleet: Fleet) -> None:
    world = fleet.world
    slow = SlowLoads(fleet)
    before = swaps("done")
    first, frame = await world.frame("drone", 0), await world.frame("drone", 1)
    async with world.working(fleet.parts("a", models=ModelSource(fleet.store, fleet.folder / "cache", slow.load))):
        await world.publish(first)
        await world.until(world.answers, 1)
        await fleet.activate("2.0.0")
        await asyncio.to_thread(slow.began.wait, TIMEOUT_S)
        last = await fleet.activate("3.0.0")
        await asyncio.sleep(0.3)
        slow.go_on.set()
        await fleet.until("done", last)
        await world.publish(frame)
        await world.until(world.answers, 2)
    assert [answer.model.version for answer in await fleet.check([first, frame])] == ["1.0.0", "3.0.0"]
    assert swaps("done") - before == 1, "the overtaken version never came into service"
    assert slow.closed == ["2.0.0", "3.0.0"], "what nobody waits for is closed when it is loaded"


async def test_models_are_closed_when_their_last_frame_is_answered(fleet: Fleet) -> None:
    world = fleet.world
    slow = SlowLoads(fleet)
    slow.go_on.set()
    source = ModelSource(fleet.store, fleet.folder / "cache", slow.load)
    own = partial(slow.load, fleet.shelf / NAME / "1.0.0" / "model.yaml")
    async with world.working(fleet.parts("a", models=source, load_model=own)):
        # Without an answer the worker might not have looked yet, and begin with what is activated.
        await world.publish(await world.frame("drone", 1))
        await world.until(world.answers, 1)
        await fleet.until("done", await fleet.activate("2.0.0"))
        deadline = time.monotonic() + TIMEOUT_S
        while slow.closed != ["1.0.0"]:
            assert time.monotonic() < deadline, slow.closed
            await asyncio.sleep(0.02)
        shown = {tuple(sample.labels.values()) for sample in next(iter(MODEL_STATE.collect())).samples}
        assert shown == {("default", NAME, "2.0.0", "enabled")}
    assert slow.closed == ["1.0.0", "2.0.0"]
    assert next(iter(MODEL_STATE.collect())).samples == []


async def test_a_faster_engine_is_swapped_in_when_it_is_there(fleet: Fleet) -> None:
    world = fleet.world
    frames = [await world.frame("drone", number) for number in range(3)]
    ready = asyncio.Event()
    asked: list[Path | None] = []

    async def upgrade(card: Path | None, on_state: OnState) -> Model | None:
        asked.append(card)
        if card is None:
            return None
        on_state("converting", "about a minute")
        await ready.wait()
        if "3.0.0" in str(card):
            raise ModelLoadError("the GPU's memory is full")
        return load_model(LoadRequest(card, "openvino", 1, "f32"))

    source = ModelSource(fleet.store, fleet.folder / "cache", fleet.load, upgrade)
    async with world.working(fleet.parts("a", models=source)):
        await world.publish(frames[2])
        await world.until(world.answers, 1)
        await fleet.until("done", await fleet.activate("2.0.0"))
        await world.publish(frames[0])
        await world.until(world.answers, 2)
        states = [(one.engine, one.state, one.detail) for one in (await fleet.report("a")).models if one.serving]
        assert states == [("onnxruntime", "converting", "about a minute")]
        ready.set()
        await fleet.until_told("a", lambda told: [one.engine for one in told.models] == ["openvino"])
        await world.publish(frames[1])
        await world.until(world.answers, 3)
        await fleet.until("done", await fleet.activate("3.0.0"))
        await fleet.until_told("a", lambda told: told.models[0].detail == "the GPU's memory is full")
        assert (await fleet.report("a")).state == "enabled"
    answers = await fleet.check([frames[2], *frames[:2]])
    assert [answer.model.version for answer in answers] == ["1.0.0", "2.0.0", "2.0.0"]
    assert [card and card.parent.name for card in asked] == [None, "2.0.0", "3.0.0"]


async def test_nonsense_in_the_topic_stops_nobody_and_a_worker_says_when_it_leaves(fleet: Fleet) -> None:
    world = fleet.world
    await world.publish_records(OutRecord(topics.MODELS, "default", b"\x00 no event"))
    async with world.working(fleet.parts("a")):
        await world.publish_records(OutRecord(topics.MODELS, "default", b"\x00 no event"))
        await fleet.until("done", await fleet.activate("2.0.0"))
        assert (await fleet.report("a")).worker == "a"
    assert (await fleet.state()).workers == {}


async def test_a_worker_told_to_stop_at_any_moment_of_its_start_stops(fleet: Fleet) -> None:
    world = fleet.world
    await fleet.activate("2.0.0")
    frames = [await world.frame("drone", number) for number in range(16)]
    for number, frame in enumerate(frames):
        await world.publish(frame)
        async with asyncio.timeout(TIMEOUT_S), world.working(fleet.parts("a")):
            await asyncio.sleep(number * 0.01)
    async with world.working(fleet.parts("a")):
        await world.until(world.answers, len(frames))
    await fleet.check(frames)


async def test_other_lanes_are_left_alone(fleet: Fleet) -> None:
    world = fleet.world
    settings = DetectorSettings(lane="sea", report_interval_s=0.5)
    async with world.working(fleet.parts("a", settings=settings)):
        await fleet.activate("2.0.0")
        sea = activate_model(ActivationRequest("sea"), None, ref("3.0.0"), None)
        await fleet.until("done", await fleet.say(sea))
        frame = await world.frame("drone", 1)
        await world.publish(frame)
        await world.until(world.answers, 1)
    assert versions(await fleet.check([frame])) == {"3.0.0": 1}


class SlowLoads:
    """Loads models when told to go on, and takes down which were closed."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.began, self.go_on = threading.Event(), threading.Event()
        self.closed: list[str] = []

    def load(self, card: Path, busy: bool = False) -> Model:
        self.began.set()
        assert self.go_on.wait(TIMEOUT_S)
        model = self._fleet.load(card)
        close = model.close

        def told() -> None:
            self.closed.append(model.card.version)
            close()

        model.close = told  # type: ignore[method-assign]  # to see it, not to change it
        return model

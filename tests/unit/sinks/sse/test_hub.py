"""Hub and sessions over a topic in memory: nothing missed, nothing repeated, whatever is cut off where."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import NoReturn

import orjson
import pytest

from infra.broker.port import Admin, Consumer, GroupSpec, InRecord, Publisher, TopicPartition, TopicState
from infra.errors import BrokerUnavailableError
from infra.failure.settings import RetrySettings
from infra.process.health import Health
from schemas.cloudevents import Attributes, to_headers
from schemas.events import DetectionsMade
from schemas.ids import device_uuid
from schemas.topics import DETECTIONS
from sinks.settings import SseSettings
from sinks.sse import history, topic_follower
from sinks.sse.filters import EVERYTHING, StreamFilter
from sinks.sse.hub import DetectionHub
from sinks.sse.positions import Position, encode_position
from sinks.sse.session import Session

PARTITIONS = 3


def made(name: str, label: str = "car") -> DetectionsMade:
    return DetectionsMade.model_validate(
        {
            "id": device_uuid(name),
            "frame_id": device_uuid(name),
            "device_id": name,
            "captured_at": "2026-11-20T12:00:00Z",
            "received_at": "2026-11-20T12:00:01Z",
            "detected_at": "2026-11-20T12:00:02Z",
            "image": {
                "uri": "file:///a",
                "sha256": "a" * 64,
                "size_bytes": 1,
                "media_type": "image/jpeg",
                "width": 640,
                "height": 480,
            },
            "model": {"name": "m", "version": "1"},
            "options": {},
            "timings": dict.fromkeys(
                ("queued_ms", "fetch_ms", "decode_ms", "inference_ms", "merge_ms", "total_ms"), 1.0
            ),
            "detections": [
                {
                    "id": device_uuid(name + "/0"),
                    "label": label,
                    "class_id": 0,
                    "confidence": 0.5,
                    "box": {"x1": 0, "y1": 0, "x2": 1, "y2": 1},
                }
            ],
        }
    )


class Topic:
    """A topic in memory, as broker and reader at once. Offsets may have holes, as Kafka's transactions leave them."""

    def __init__(self) -> None:
        self.records: list[list[InRecord]] = [[] for _ in range(PARTITIONS)]
        self.ends = [0] * PARTITIONS
        self.firsts = [0] * PARTITIONS
        self.away = False
        self.incarnation = ""
        self.partitions = PARTITIONS
        self.hanging: set[int] = set()
        self.looks = 0
        self.reads = 0
        self._changed = asyncio.Event()

    def publish(self, partition: int, name: str, label: str = "car", value: bytes | None = None) -> None:
        event = made(name, label)
        headers = to_headers(
            Attributes(
                id=str(event.id), source="t", type=event.event_type(), time=event.detected_at, partition_key=name
            )
        )
        data = event.to_bytes() if value is None else value
        self.records[partition].append(InRecord(DETECTIONS, partition, self.ends[partition], 0, name, data, headers))
        self.ends[partition] += 1
        self.touch()

    def mark(self, partition: int) -> None:
        """A transaction marker: takes an offset, is no record."""
        self.ends[partition] += 1
        self.touch()

    def forget(self, partition: int, before: int) -> None:
        self.firsts[partition] = before
        self.records[partition] = [record for record in self.records[partition] if record.offset >= before]

    def touch(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _check(self) -> None:
        if self.away:
            raise BrokerUnavailableError("the broker is away")

    async def state(self, topic: str) -> TopicState:
        assert topic == DETECTIONS
        self.looks += 1
        self._check()
        return TopicState(self.partitions, self.incarnation)

    async def bounds(self, topic: str, partitions: Collection[int] | None = None) -> Mapping[int, tuple[int, int]]:
        assert topic == DETECTIONS
        self._check()
        wanted = range(PARTITIONS) if partitions is None else partitions
        if not self.hanging.isdisjoint(wanted):
            await asyncio.Event().wait()
        return {number: (self.firsts[number], self.ends[number]) for number in wanted}

    def make_again(self, incarnation: str, *names: str) -> None:
        """Delete the topic and make it again, with one event of each of ``names`` in the first partition."""
        self.records = [[] for _ in range(PARTITIONS)]
        self.ends = [0] * PARTITIONS
        self.firsts = [0] * PARTITIONS
        self.incarnation = incarnation
        for name in names:
            self.publish(0, name)

    async def read(self, source: TopicPartition, offset: int, *, max_records: int, timeout_s: float) -> list[InRecord]:
        self.reads += 1
        deadline = asyncio.get_running_loop().time() + timeout_s / 20
        while True:
            self._check()
            if source.partition in self.hanging:
                await asyncio.Event().wait()
            found = [record for record in self.records[source.partition] if record.offset >= offset][:max_records]
            if found:
                await asyncio.sleep(0)
                return found
            try:
                async with asyncio.timeout_at(deadline):
                    await self._changed.wait()
            except TimeoutError:
                return []

    async def reader(self) -> Topic:
        self._check()
        return self

    async def close(self) -> None:
        pass

    async def publisher(self) -> Publisher:
        return _unused()

    async def consumer(self, spec: GroupSpec) -> Consumer:
        return _unused(spec.group)

    async def admin(self) -> Admin:
        return _unused()


def _unused(what: str = "") -> NoReturn:
    raise AssertionError(f"the stream only reads {what}")


class CutError(Exception):
    """The client's connection broke."""


@dataclass
class Page:
    """A client: keeps what EventSource would keep. ``cut_after`` events its connection breaks."""

    cut_after: int = 1_000_000
    last_id: str | None = None
    events: list[tuple[str, str, bytes]] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    gate: asyncio.Event | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def write(self, data: bytes) -> None:
        if self.gate is not None:
            await self.gate.wait()
        assert data.endswith(b"\n\n")
        for block in data.decode().removesuffix("\n\n").split("\n\n"):
            self._block(block.split("\n"))
        self.changed.set()
        await asyncio.sleep(0)

    def _block(self, lines: list[str]) -> None:
        fields: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(": ")
            if name:
                fields[name] = value
            else:
                self.comments.append(value)
        self.last_id = fields.get("id", self.last_id)
        if "data" in fields:
            assert self.last_id is not None
            self.events.append((fields["event"], self.last_id, fields["data"].encode()))
            if len(self.events) >= self.cut_after:
                raise CutError

    @property
    def names(self) -> list[str]:
        return [orjson.loads(data)["device_id"] for name, _, data in self.events if name == "detections"]

    @property
    def labels(self) -> list[tuple[str, str]]:
        """Device and first label of each event."""
        found = [orjson.loads(data) for name, _, data in self.events if name == "detections"]
        return [(event["device_id"], event["detections"][0]["label"]) for event in found]

    async def until(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.events) < count:
                self.changed.clear()
                await self.changed.wait()


def settings(**changes: float) -> SseSettings:
    return SseSettings.model_validate(
        {"flush_interval_s": 0.002, "heartbeat_s": 30.0, "replay_events": 1000, **changes}
    )


@asynccontextmanager
async def running(
    topic: Topic, health: Health | None = None, grown_from: int | None = None, **changes: float
) -> AsyncIterator[DetectionHub]:
    retry = RetrySettings(first_delay_s=0.01, max_delay_s=0.02)
    hub = DetectionHub(topic, settings(**changes), retry, grown_from=grown_from)
    stop = asyncio.Event()
    task = asyncio.create_task(hub.run(stop, (health or Health()).part("sse")))
    try:
        yield hub
    finally:
        stop.set()
        await task


@asynccontextmanager
async def out_of_reach(topic: Topic) -> AsyncIterator[None]:
    """The broker is away inside the block, and its readers have noticed."""
    topic.away = True
    topic.touch()
    await asyncio.sleep(0.02)
    yield
    topic.away = False


@asynccontextmanager
async def connected(
    hub: DetectionHub, page: Page, wanted: StreamFilter = EVERYTHING, last_id: str | None = None
) -> AsyncIterator[asyncio.Task[None]]:
    session = Session(hub, wanted, last_id)
    with hub.client(session) as client:
        client.writer = task = asyncio.create_task(session.run(page.write))
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def until(true: Callable[[], bool]) -> None:
    for _ in range(1_000):
        if true():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("what was waited for did not happen within 5 s")


async def started(page: Page) -> None:
    async with asyncio.timeout(5):
        while page.last_id is None:
            page.changed.clear()
            await page.changed.wait()


async def test_live_events_reach_everybody_in_order_and_nobody_gets_the_past() -> None:
    topic = Topic()
    topic.publish(0, "past")
    pages = [Page() for _ in range(5)]
    async with running(topic) as hub:
        contexts = [connected(hub, page) for page in pages]
        for context, page in zip(contexts, pages, strict=True):
            await context.__aenter__()
            await started(page)
        for number in range(50):
            topic.publish(number % PARTITIONS, f"d{number}")
        for page in pages:
            await page.until(50)
        for context in contexts:
            await context.__aexit__(None, None, None)
    for page in pages:
        assert sorted(page.names) == sorted(f"d{number}" for number in range(50))
        assert [name for name in page.names if int(name[1:]) % 3 == 1] == [f"d{n}" for n in range(50) if n % 3 == 1]


async def test_equal_filters_share_the_very_same_bytes() -> None:
    topic = Topic()
    pages = [Page(), Page()]
    wanted = [StreamFilter(labels=frozenset({"boat"})), StreamFilter(labels=frozenset({"boat"}))]
    async with running(topic) as hub:
        async with connected(hub, pages[0], wanted[0]), connected(hub, pages[1], wanted[1]):
            for page in pages:
                await started(page)
            number = hub.ring.next_number
            topic.publish(0, "d0", "boat")
            for page in pages:
                await page.until(1)
        assert hub.ring.view(number, wanted[0]) is hub.ring.view(number, wanted[1])


@pytest.mark.parametrize("seed", range(12))
async def test_nothing_is_missed_or_repeated_across_cuts_and_processes(seed: int) -> None:
    """Two processes with rings of different length; a client is cut off at random and resumes at either."""
    rng = random.Random(seed)
    topic = Topic()
    expected: list[list[str]] = [[] for _ in range(PARTITIONS)]
    total = 240
    page = Page(last_id="0.0.0")

    async def publish() -> None:
        for number in range(total):
            partition = rng.randrange(PARTITIONS)
            topic.publish(partition, f"d{number}")
            expected[partition].append(f"d{number}")
            if rng.random() < 0.2:
                topic.mark(partition)
            if rng.random() < 0.3:
                await asyncio.sleep(0.001)

    async with (
        running(topic, replay_events=rng.choice([3, 20, 500])) as one,
        running(topic, replay_events=rng.choice([3, 20, 500])) as other,
    ):
        publishing = asyncio.create_task(publish())
        async with asyncio.timeout(20):
            while len(page.events) < total:
                page.cut_after = min(total, len(page.events) + rng.randrange(1, 40))
                async with connected(rng.choice([one, other]), page, last_id=page.last_id) as task:
                    await asyncio.wait({task})
                    assert isinstance(task.exception(), CutError)
        await publishing
    for partition, names in enumerate(expected):
        mine = set(names)
        assert [name for name in page.names if name in mine] == names, f"partition {partition}"
    assert len(page.names) == total


async def test_a_filtered_client_resumes_from_now_though_it_saw_nothing() -> None:
    topic = Topic()
    page = Page()
    async with running(topic, heartbeat_s=0.02) as hub, connected(hub, page, StreamFilter(labels=frozenset({"boat"}))):
        await started(page)
        for number in range(10):
            topic.publish(0, f"d{number}")
        await until(lambda: page.last_id == "a.0.0")
    assert page.events == []
    assert "heartbeat" in page.comments


async def test_an_id_older_than_the_topic_is_told_what_is_lost() -> None:
    topic = Topic()
    for number in range(10):
        topic.publish(0, f"d{number}")
    topic.forget(0, 6)
    page = Page()
    async with running(topic) as hub, connected(hub, page, last_id="2.0.0"):
        await page.until(5)
    kind, event_id, data = page.events[0]
    assert (kind, event_id) == ("gap", "6.0.0")
    assert orjson.loads(data) == {"lost": [{"partition": 0, "from": 2, "to": 5, "reason": "retention"}]}
    assert page.names == ["d6", "d7", "d8", "d9"]


async def test_an_id_of_a_topic_that_is_gone_gets_a_gap_and_all_of_the_new_topic() -> None:
    topic = Topic()
    topic.publish(1, "new")
    page = Page()
    async with running(topic) as hub, connected(hub, page, last_id="0.99.0"):
        await page.until(2)
    assert orjson.loads(page.events[0][2])["lost"] == [{"partition": 1, "from": 153, "to": None, "reason": "recreated"}]
    assert page.names == ["new"]


async def test_poison_is_skipped_and_the_stream_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    topic = Topic()
    page = Page()
    async with running(topic) as hub, connected(hub, page):
        await started(page)
        topic.publish(0, "d0")
        topic.publish(0, "bad", value=b"{not json")
        topic.publish(0, "d1")
        await page.until(2)
    assert page.names == ["d0", "d1"]
    assert "record skipped" in caplog.text


async def test_an_event_of_a_newer_version_is_passed_over_and_health_says_so(caplog: pytest.LogCaptureFixture) -> None:
    topic, page, health = Topic(), Page(), Health()
    async with running(topic, health) as hub, connected(hub, page):
        await started(page)
        topic.publish(0, "d0")
        new = topic.records[0][-1]
        headers = tuple(
            (name, b"standgale.detections.made.v2" if name == "ce_type" else value) for name, value in new.headers
        )
        topic.records[0].append(replace(new, offset=topic.ends[0], headers=headers))
        topic.mark(0)
        topic.publish(0, "d1")
        await page.until(2)
        await until(lambda: "1 events were passed over" in (health.part("sse").report().note or ""))
    assert page.names == ["d0", "d1"]
    assert [record.levelname for record in caplog.records if "update this program" in record.message] == ["ERROR"]


async def test_a_slow_client_is_sent_away_and_misses_nothing_when_it_returns() -> None:
    topic = Topic()
    page = Page(gate=asyncio.Event())
    assert page.gate is not None
    async with running(topic, client_queue_events=8) as hub:
        page.gate.set()
        async with connected(hub, page) as task:
            await started(page)
            page.gate.clear()
            for number in range(40):
                topic.publish(0, f"d{number}")
                await asyncio.sleep(0.001)
            await until(lambda: hub.ring.end == (40, 0, 0))
            page.gate.set()
            await asyncio.wait({task}, timeout=5)
            assert task.done()
            assert task.exception() is None
        kind, event_id, data = page.events[-1]
        assert kind == "overflow"
        assert orjson.loads(data)["pending"] > 8
        async with connected(hub, page, last_id=event_id):
            await page.until(41)
    assert page.names == [f"d{number}" for number in range(40)]


async def test_a_client_that_takes_nothing_at_all_is_cut_off() -> None:
    topic = Topic()
    page = Page(gate=asyncio.Event())
    async with running(topic, heartbeat_s=0.02) as hub:
        session = Session(hub, EVERYTHING, None)
        with hub.client(session) as client:

            async def write(data: bytes) -> None:
                client.writing_since = asyncio.get_running_loop().time()
                await page.write(data)

            client.writer = asyncio.create_task(session.run(write))
            await asyncio.wait({client.writer}, timeout=5)
            assert client.writer.cancelled()


async def test_streams_outlive_the_broker() -> None:
    topic = Topic()
    page = Page()
    health = Health()
    hub = DetectionHub(topic, settings(heartbeat_s=0.02), RetrySettings(first_delay_s=0.01, max_delay_s=0.02))
    stop = asyncio.Event()
    task = asyncio.create_task(hub.run(stop, health.part("sse")))
    topic.away = True
    async with connected(hub, page):
        await until(lambda: "heartbeat" in page.comments)
        assert not health.report().ready
        topic.away = False
        await started(page)
        assert health.report().ready
        topic.publish(0, "before")
        await page.until(1)
        topic.away = True
        topic.touch()
        await until(lambda: not health.report().ready)
        topic.publish(0, "during")
        topic.away = False
        await page.until(2)
    stop.set()
    await task
    assert page.names == ["before", "during"]


async def test_a_resume_while_the_broker_is_away_waits_and_loses_nothing() -> None:
    topic = Topic()
    for number in range(20):
        topic.publish(0, f"d{number}")
    page = Page()
    async with running(topic, replay_events=3) as hub:
        await until(lambda: hub.started)
        topic.away = True
        async with connected(hub, page, last_id="0.0.0"):
            await until(lambda: "waiting for the broker" in page.comments)
            topic.away = False
            await page.until(20)
    assert page.names == [f"d{number}" for number in range(20)]


async def test_a_topic_that_starts_anew_under_the_hub_is_told_to_all() -> None:
    topic = Topic()
    page = Page()
    async with running(topic) as hub, connected(hub, page):
        await started(page)
        for number in range(5):
            topic.publish(0, f"d{number}")
        await page.until(5)
        async with out_of_reach(topic):
            topic.records = [[] for _ in range(PARTITIONS)]
            topic.ends = [0] * PARTITIONS
            topic.publish(0, "anew")
        await page.until(7)
    assert [kind for kind, _, _ in page.events] == ["detections"] * 5 + ["gap", "detections"]
    assert page.events[-1][1] == "1.0.0"
    assert page.names[-1] == "anew"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that looks at its topic, and gives up what hangs, within a fraction of a second."""
    monkeypatch.setattr(topic_follower, "_LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(topic_follower, "_HANG_S", 0.2)


@pytest.mark.usefixtures("quick")
async def test_more_partitions_are_told_and_streams_stay_open() -> None:
    topic = Topic()
    page = Page()
    health = Health()
    async with running(topic, health) as hub, connected(hub, page) as client:
        await started(page)
        topic.partitions = PARTITIONS + 1
        await until(lambda: not health.report().ready)
        assert "restart this process" in str(health.report().parts["sse"])
        looks = topic.looks
        await asyncio.sleep(0.2)
        assert topic.looks - looks < 30
        topic.publish(0, "sent-later")
        assert not client.done()
        topic.partitions = PARTITIONS
        await page.until(1)
        await until(lambda: health.report().ready)
    assert page.names == ["sent-later"]


@pytest.mark.usefixtures("quick")
async def test_a_topic_made_again_is_sent_from_its_start_after_a_gap() -> None:
    topic = Topic()
    topic.incarnation = "first"
    page, late = Page(), Page()
    health = Health()
    async with running(topic, health) as hub:
        async with connected(hub, page):
            await started(page)
            for number in range(3):
                topic.publish(0, f"d{number}")
            await page.until(3)
            former_id = page.last_id
            # More than there was before: the old position lies inside the new topic.
            topic.make_again("second", *(f"n{number}" for number in range(6)))
            await until(lambda: page.names[-6:] == [f"n{number}" for number in range(6)])
        # What was read before this was noticed was sent, too.
        kinds = [kind for kind, _, _ in page.events]
        gap = kinds.index("gap")
        assert kinds[gap:] == ["gap"] + ["detections"] * 6
        (lost,) = orjson.loads(page.events[gap][2])["lost"]
        assert (lost["partition"], lost["to"], lost["reason"]) == (0, None, "recreated")
        await until(lambda: health.report().ready)
        # A client that comes back with an id of the topic that is gone.
        async with connected(hub, late, last_id=former_id):
            await late.until(1 + 6)
    assert [kind for kind, _, _ in late.events] == ["gap"] + ["detections"] * 6
    assert late.last_id == page.last_id


@pytest.mark.usefixtures("quick")
async def test_a_broker_that_comes_back_with_the_topic_made_again_makes_it_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(topic_follower, "_LOOKS_FAIL_S", 0.05)
    topic = Topic()
    topic.incarnation = "first"
    health = Health()
    async with running(topic, health) as hub:
        await until(lambda: hub.started and health.report().ready)
        topic.away = True
        topic.touch()
        # No look at the topic works for so long that this is a reason of its own.
        await until(lambda: "topic detections:" in (health.part("sse").reason or ""))
        topic.make_again("second")
        topic.away = False
        await until(lambda: health.report().ready)


@pytest.mark.usefixtures("quick")
async def test_a_partition_that_hangs_is_named_and_the_others_go_on() -> None:
    topic = Topic()
    page = Page()
    health = Health()
    async with running(topic, health) as hub, connected(hub, page):
        await started(page)
        topic.hanging = {1}
        topic.touch()
        topic.publish(1, "waits")
        await until(lambda: not health.report().ready)
        assert "detections/1" in str(health.report().parts["sse"])
        assert "detections/0" not in str(health.report().parts["sse"])
        for number in range(20):
            topic.publish(number % 2 * 2, f"d{number}")
        await page.until(20)
        assert not health.report().ready
        topic.hanging = set()
        await page.until(21)
        await until(lambda: health.report().ready)
    assert page.names[-1] == "waits"
    assert {kind for kind, _, _ in page.events} == {"detections"}


async def test_what_retention_took_while_the_process_was_stopped_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    topic = Topic()
    page = Page()
    async with running(topic) as hub, connected(hub, page):
        await started(page)
        for number in range(3):
            topic.publish(0, f"d{number}")
        await page.until(3)
        # As after a long SIGSTOP: the clock has gone on, and so has retention.
        monkeypatch.setattr(topic_follower, "_SILENCE_S", -1.0)
        topic.ends[0] = 8
        topic.forget(0, 8)
        await page.until(4)
        monkeypatch.setattr(topic_follower, "_SILENCE_S", 30.0)
        topic.publish(0, "after")
        await page.until(5)
    assert [kind for kind, _, _ in page.events] == ["detections"] * 3 + ["gap", "detections"]
    assert orjson.loads(page.events[3][2])["lost"] == [{"partition": 0, "from": 3, "to": 7, "reason": "retention"}]


@pytest.mark.usefixtures("quick")
async def test_a_topic_that_lost_its_end_is_read_on_from_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "_LOW_END_S", 0.05)
    monkeypatch.setattr(history, "_LOW_END_PAUSE_S", 0.01)
    topic = Topic()
    topic.incarnation = "first"
    page = Page()
    async with running(topic) as hub, connected(hub, page):
        await started(page)
        for number in range(5):
            topic.publish(0, f"d{number}")
        await page.until(5)
        async with out_of_reach(topic):
            del topic.records[0][3:]
            topic.ends[0] = 3
        await page.until(6)
        topic.publish(0, "instead")
        await page.until(7)
    assert [kind for kind, _, _ in page.events] == ["detections"] * 5 + ["gap", "detections"]
    assert orjson.loads(page.events[5][2])["lost"] == [{"partition": 0, "from": 3, "to": 4, "reason": "truncated"}]
    assert page.names[-1] == "instead"


async def test_in_a_group_that_has_grown_the_former_partitions_come_first() -> None:
    topic = Topic()
    # Before: one partition. Devices of it may have moved to 1 and 2, and everything there is newer.
    for number in range(50):
        topic.publish(0, f"before-{number}")
    for number in range(50):
        topic.publish(1 + number % 2, f"after-{number}")
    live, history_first = Page(), Page()
    async with running(topic, grown_from=1, client_queue_events=64) as hub, connected(hub, live, last_id="0"):
        await live.until(100)
    # A ring that begins in the middle: what it lacks is read from the topic.
    async with running(topic, grown_from=1, replay_events=30) as hub, connected(hub, history_first, last_id="0"):
        await history_first.until(100)
    for page in (live, history_first):
        assert len(set(page.names)) == 100
        assert page.names[:50] == [f"before-{number}" for number in range(50)]


async def test_stop_sends_what_is_pending_and_ends_the_stream() -> None:
    topic = Topic()
    page = Page()
    hub = DetectionHub(topic, settings())
    stop = asyncio.Event()
    task = asyncio.create_task(hub.run(stop, Health().part("sse")))
    async with connected(hub, page) as client:
        await started(page)
        topic.publish(0, "last")
        await page.until(1)
        stop.set()
        await asyncio.wait({client}, timeout=5)
        assert client.done()
        assert client.exception() is None
    await task
    assert page.comments[-1] == "closing, connect again"
    assert page.last_id == "1.0.0"


async def test_a_burst_longer_than_a_clients_queue_does_not_make_it_slow() -> None:
    topic = Topic()
    page = Page()
    async with running(topic, client_queue_events=40) as hub, connected(hub, page):
        await started(page)
        for number in range(1_000):
            topic.publish(number % PARTITIONS, f"d{number}")
        await page.until(1_000)
    assert len(set(page.names)) == 1_000
    assert {kind for kind, _, _ in page.events} == {"detections"}


def test_a_position_is_short() -> None:
    busy: Position = (10_000_000,) * 8
    assert len(encode_position(busy)) < 60

"""Runs the demonstration: starts the pipeline in a child process, sends frames, counts results and reports."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import UUID

import aiohttp
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from detectors.card.card import ModelCard, default_card_path, read_card
from infra.auth.tokens import DeviceTokens
from infra.broker.port import TopicPartition
from infra.broker.reading import read_between
from infra.database.migrate import migrate_up
from infra.database.pool import Database
from infra.deploy.ports import free_port
from infra.errors import TransientError
from schemas import topics
from schemas.cloudevents import decode
from schemas.events import DetectionsMade
from standgale.children import run_child, standgale_command
from standgale.demo.drones import Drone, SentFrame
from standgale.demo.frames import DemoFrame, flight_frames, source_frames
from standgale.demo.report import DemoReport, OutputLocations, percentiles_ms
from standgale.demo.result_picture import best_frame, draw_result
from standgale.demo.scoring import Score
from standgale.demo.source import Source
from standgale.demo.trust import describe_trust
from standgale.demo.watcher import SeenEvent, StreamWatcher
from standgale.opening import open_command_broker
from standgale.settings import Settings

_START_TIMEOUT_S = 90.0
_SETTLE_TIMEOUT_S = 60.0
_DETECTED = "SELECT count(*) FROM images WHERE id = ANY($1::uuid[]) AND processing_status = 'completed'"
_LOOK_AGAIN_S = 0.2
_FIRST_SEED = 910_000


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """Holds the options of a demonstration. With a ``source`` one device sends its pictures, else drones fly."""

    data_dir: Path
    drones: int = 4
    frames_per_drone: int = 30
    frame_size: tuple[int, int] = (1280, 960)
    interval_s: float = 1.0
    source: Source | None = None

    def flights(self) -> dict[str, Iterator[DemoFrame]]:
        """Return the frames of each device; simulated flights show scenes that the shipped model was not trained on."""
        if self.source is not None:
            return {"demo-source": source_frames(self.source, "demo-source", self.drones * self.frames_per_drone)}
        names = [f"drone-{number}" for number in range(1, self.drones + 1)]
        return {
            name: flight_frames(name, _FIRST_SEED + number, self.frames_per_drone, self.frame_size)
            for number, name in enumerate(names)
        }


@dataclass(slots=True)
class _DemoState:
    """Keeps what was sent and seen so far, and shows it on the terminal."""

    console: Console
    progress: Progress
    bars: dict[str, TaskID]
    sent: list[SentFrame] = field(default_factory=list)

    def on_sent(self, sent: SentFrame) -> None:
        self.sent.append(sent)
        self.progress.update(self.bars["sent"], completed=len(self.sent))
        self.progress.update(self.bars["accepted"], completed=len(self.accepted))

    def on_seen(self, seen: SeenEvent) -> None:
        event = seen.event
        labels = [each.label for each in event.detections]
        counts = ", ".join(f"{labels.count(label)} {label}" for label in dict.fromkeys(labels)) or "nothing"
        self.progress.console.print(
            Text.assemble((f"{event.captured_at:%H:%M:%S}", "dim"), f" {event.device_id}: {counts}")
        )
        self.progress.advance(self.bars["seen"])

    @property
    def accepted(self) -> dict[UUID, SentFrame]:
        return {sent.frame_id: sent for sent in self.sent if sent.frame_id is not None}


async def run_demo(settings: Settings, plan: DemoPlan, console: Console) -> DemoReport:
    """Run the demonstration. Raises ChildError if the pipeline does not start."""
    flights = plan.flights()
    settings = settings.model_copy(update={"data_dir": plan.data_dir.absolute()})
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    log = settings.data_dir / "standgale.log"
    async with AsyncExitStack() as stack:
        console.print("starting PostgreSQL …")
        database = Database.open(settings.database, settings.data_dir)
        stack.push_async_callback(database.close)
        dsn = await database.dsn()
        await asyncio.to_thread(migrate_up, dsn)
        tokens = {name: await _fresh_token(DeviceTokens(database), name) for name in flights}
        console.print("starting the gateway, the detector and the sinks …")
        url = await stack.enter_async_context(_pipeline(settings, dsn, log))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        course, watcher = await stack.enter_async_context(_watching(session, url, plan, len(flights), console))
        drones = [
            Drone(f"{url}/api/v1/frames", tokens[name], frames, plan.interval_s, course.on_sent)
            for name, frames in flights.items()
        ]
        await asyncio.gather(*(drone.fly(session) for drone in drones))
        in_postgres = await _wait_for_results(course, watcher, database)
        detected, repeated = await _in_topic(settings, set(course.accepted))
    by_frame = {seen.event.frame_id: seen for seen in watcher.seen.values() if seen.event.frame_id in course.accepted}
    events = [seen.event for seen in by_frame.values()]
    card = read_card(settings.detector.model or default_card_path())
    picture = await asyncio.to_thread(_draw_best, settings, course, events, card)
    trust = () if plan.source is None else tuple(describe_trust(card, events))
    places = replace(_places(settings, dsn, log), picture=picture)
    return replace(_report(course, watcher, in_postgres, detected, repeated, places), trust=trust)


def _draw_best(settings: Settings, course: _DemoState, events: list[DetectionsMade], card: ModelCard) -> Path | None:
    """Draw the frame with the most detections; return the file, None when nothing was found."""
    best = best_frame(events, card.classes)
    if best is None:
        return None
    path = settings.data_dir / "result.jpg"
    draw_result(path, course.accepted[best.frame_id].frame.data, best, card.classes, settings.detector.max_pixels)
    return path


async def _fresh_token(tokens: DeviceTokens, device_id: str) -> str:
    """Make a token for a device; its tokens of an earlier demonstration are revoked."""
    if any(device.holder_id == device_id for device in await tokens.list()):
        await tokens.revoke(device_id)
    return await tokens.add(device_id)


@asynccontextmanager
async def _pipeline(settings: Settings, dsn: str, log: Path) -> AsyncIterator[str]:
    """Run `standgale up` in a child process; yields the gateway's address once it is ready."""
    port, health_port = free_port(), free_port()
    environment = {
        **os.environ,
        "STANDGALE_DATA_DIR": str(settings.data_dir),
        "STANDGALE_DATABASE__URL": dsn,
        "STANDGALE_GATEWAY__PORT": str(port),
        "STANDGALE_TELEMETRY__HEALTH_PORT": str(health_port),
    }
    command = standgale_command("up", "--stop-at-end-of-input")
    async with run_child(command, environment, log, f"http://127.0.0.1:{health_port}/health/ready"):
        yield f"http://127.0.0.1:{port}"


@asynccontextmanager
async def _watching(
    session: aiohttp.ClientSession, url: str, plan: DemoPlan, devices: int, console: Console
) -> AsyncIterator[tuple[_DemoState, StreamWatcher]]:
    """Show progress bars, and connect a client to the live stream before the first frame is sent."""
    total = devices * plan.frames_per_drone if plan.source is None else len(plan.source.pictures) or None
    columns = (TextColumn("{task.description:<9}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bars = {name: progress.add_task(name, total=total) for name in ("sent", "accepted", "seen")}
        course = _DemoState(console, progress, bars)
        watcher = StreamWatcher(f"{url}/api/v1/detections/stream", course.on_seen)
        watching = asyncio.create_task(watcher.watch(session))
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                await watcher.connected.wait()
            yield course, watcher
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching


async def _wait_for_results(course: _DemoState, watcher: StreamWatcher, database: Database) -> int:
    """Wait until every accepted frame is in PostgreSQL and was seen, or progress stops; returns the number of rows."""
    wanted = list(course.accepted)
    deadline = time.monotonic() + _SETTLE_TIMEOUT_S
    rows, moved = -1, 0
    while time.monotonic() < deadline:
        try:
            async with database.acquire() as connection:
                rows = await connection.fetchval(_DETECTED, wanted)
        except TransientError as error:
            course.console.print(f"PostgreSQL does not respond; the query is repeated: {error}")
        if rows == len(wanted) and len(watcher.seen) >= len(wanted):
            break
        if rows + len(watcher.seen) > moved:
            moved = rows + len(watcher.seen)
            deadline = time.monotonic() + _SETTLE_TIMEOUT_S
        await asyncio.sleep(_LOOK_AGAIN_S)
    return max(rows, 0)


async def _in_topic(settings: Settings, wanted: set[UUID]) -> tuple[int, int]:
    """Return how many ``wanted`` frames have a detections event in the topic, and how many events are repeated."""
    counts: Counter[UUID] = Counter()
    async with open_command_broker(settings) as broker:
        reader = await broker.reader()
        try:
            for partition, (first, end) in (await reader.bounds(topics.DETECTIONS)).items():
                source = TopicPartition(topics.DETECTIONS, partition)
                async for record in read_between(reader, source, first, end):
                    counts[decode(record.headers, record.value, DetectionsMade).frame_id] += 1
        finally:
            await reader.close()
    ours = {frame: count for frame, count in counts.items() if frame in wanted}
    return len(ours), sum(count - 1 for count in ours.values())


def _report(
    course: _DemoState, watcher: StreamWatcher, in_postgres: int, detected: int, repeated: int, places: OutputLocations
) -> DemoReport:
    accepted = course.accepted
    by_frame = {seen.event.frame_id: seen for seen in watcher.seen.values() if seen.event.frame_id in accepted}
    score = Score()
    for frame_id, seen in by_frame.items():
        truth = accepted[frame_id].frame.truth
        if truth is not None:
            score.add(seen.event.detections, truth)
    p50_ms, p95_ms = percentiles_ms([seen.at - accepted[frame_id].started for frame_id, seen in by_frame.items()])
    return DemoReport(
        sent=len(course.sent),
        accepted=len(accepted),
        refused=tuple(sent.refusal for sent in course.sent if sent.refusal is not None),
        detected=detected,
        in_postgres=in_postgres,
        seen=len(by_frame),
        repeated=repeated + watcher.repeats,
        detections=sum(len(seen.event.detections) for seen in by_frame.values()),
        p50_ms=p50_ms,
        p95_ms=p95_ms,
        recall=score.recall,
        precision=score.precision if score.true else None,
        places=places,
    )


def _places(settings: Settings, dsn: str, log: Path) -> OutputLocations:
    return OutputLocations(
        data_dir=settings.data_dir,
        frames=settings.frames_folder,
        postgres_url=dsn,
        broker=settings.data_dir / "broker.sqlite",
        log=log,
    )

"""Accounts for every accepted frame and every detection in each sink."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias
from uuid import UUID

import asyncpg

from schemas import topics
from schemas.events import DeadLetter, DetectionsMade
from sinks.annotations.payloads import post_id
from tests.campaign.outs.listeners import Listeners
from tests.campaign.outs.load import FLIGHT, Load
from tests.campaign.outs.site import REPOSITORY, OutsSite
from tests.campaign.reconcile import (
    Account,
    Frames,
    compare,
    compare_order,
    dead_letters,
    describe,
    detections_events,
)

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@dataclass
class OutsAccount(Account):
    """The result for all frames in all sinks."""

    counts: dict[str, int] = field(default_factory=dict)
    """What there was to find in each place"""
    again: dict[str, int] = field(default_factory=dict)
    """Repetitions that a sink may make, because the response to the first was lost; with the same id"""
    different: list[str] = field(default_factory=list)
    """Figures that are not what they should be"""

    def require(self, what: str, found: object, wanted: object) -> None:
        """Note a figure that is not as ``wanted``."""
        if found != wanted:
            self.different.append(f"{what}: {found}, and {wanted} were expected")


@dataclass(frozen=True)
class Events:
    """Holds what is in the topics: the truth for the sinks."""

    live: Sequence[DetectionsMade]
    """Of devices"""
    owned: Sequence[DetectionsMade]
    """Of jobs and media"""
    letters: Sequence[DeadLetter]
    """Of frames"""

    @property
    def all(self) -> list[DetectionsMade]:
        """All detections events."""
        return [*self.live, *self.owned]


async def reconcile(site: OutsSite, load: Load, listeners: Listeners) -> OutsAccount:
    """Compare what was accepted with the topics, and the topics with each sink."""
    account = OutsAccount()
    events = await _events_of(site, account)
    frames, broken = Frames(load.frames), Frames(load.broken)
    account.accepted = len(frames.all | broken.all)
    compare(account, frames, "topic detections", [event.frame_id for event in events.live])
    compare_order(account, frames, "topic detections", [(event.device_id, event.frame_id) for event in events.live])
    letters = {letter.frame_id for letter in events.letters if letter.frame_id is not None}
    compare(account, broken, "topic frames.dead", sorted(letters))
    found = sum(len(event.detections) for event in events.all)
    account.counts |= {"frames": account.accepted, "damaged frames": len(broken.all)}
    account.counts |= {"events": len(events.all), "detections": found}
    async with site.database.connected() as connection:
        if load.client is not None:
            await _compare_media_and_jobs(account, connection, load, events)
        if "postgres" in site.sinks:
            await _compare_tables(account, connection, events, load)
        if {"postgres", "lakefs"} <= set(site.sinks):
            await _compare_archive_rows(account, connection, site, events)
        if "statistics" in site.sinks:
            await _compare_statistics(account, connection, events)
        if "annotations" in site.sinks:
            await _compare_annotations(account, connection, site, events)
    if "lakefs" in site.sinks:
        _compare_archive(account, site, events)
    for client in listeners.clients:
        compare(account, frames, client.name, [frame for _, frame in client.frames])
        compare_order(account, frames, client.name, client.frames)
        account.require(f"{client.name}: events that came again", client.repeats, 0)
        account.require(f"{client.name}: gaps", client.notices.get("gap", 0), 0)
    if "mqtt" in site.sinks:
        compare_ids(account, "MQTT", [event.id for event in events.live], listeners.mqtt_events(), may_repeat=True)
    if "webhooks" in site.sinks:
        _compare_calls(account, listeners, events)
    return account


async def _events_of(site: OutsSite, account: OutsAccount) -> Events:
    async with site.broker.open_client() as broker:
        reader = await broker.reader()
        events = await detections_events(reader)
        letters = [letter async for letter in dead_letters(reader, topics.FRAMES_DEAD)]
        account.dead_letters = [
            describe(topics.SINKS_DEAD, each) async for each in dead_letters(reader, topics.SINKS_DEAD)
        ]
        await reader.close()
    live = [event for event in events if event.job_id is None]
    return Events(live, [event for event in events if event.job_id is not None], letters)


def compare_ids(
    account: OutsAccount, place: str, wanted: Iterable[UUID], found: Sequence[UUID], *, may_repeat: bool = False
) -> None:
    """Compare ids that are each wanted once; where they ``may_repeat`` repetitions are counted."""
    named = Frames({place: list(wanted)})
    account.counts[place] = len(named.all)
    if may_repeat:
        account.again[place] = len(found) - len(set(found))
    compare(account, named, place, list(dict.fromkeys(found)) if may_repeat else found)


async def _compare_media_and_jobs(account: OutsAccount, connection: Connection, load: Load, events: Events) -> None:
    """Compare what the client was promised with the rows, and their frames with the topic."""
    assert load.client is not None
    runs = await connection.fetch("SELECT media_id, state FROM media_runs")
    states = {row["media_id"]: row["state"] for row in runs}
    account.require("runs of media", len(runs), len(load.client.media))
    account.different += [
        f"medium {name} is {states.get(name, 'not there')}"
        for name in load.client.media
        if states.get(name) != "processed"
    ]
    jobs = {row["job_id"]: row["status"] for row in await connection.fetch("SELECT job_id, status FROM jobs")}
    account.different += [
        f"job {name} is {jobs.get(name, 'not there')}" for name in load.client.jobs if jobs.get(name) != "completed"
    ]
    account.counts |= {"media": len(runs), "jobs": len(jobs)}
    sessions = await connection.fetch(
        "SELECT session_id FROM media_frames UNION ALL SELECT session_id FROM job_files WHERE session_id IS NOT NULL"
    )
    compare_ids(
        account, "files of media and jobs", [each.id for each in events.owned], [row["session_id"] for row in sessions]
    )


async def _compare_tables(account: OutsAccount, connection: Connection, events: Events, load: Load) -> None:
    images = await connection.fetch("SELECT id, processing_status, flight_id FROM images")
    by_status: dict[str, list[UUID]] = defaultdict(list)
    for row in images:
        by_status[row["processing_status"]].append(row["id"])
    compare_ids(account, "table images", {event.frame_id for event in events.all}, by_status.pop("completed", []))
    broken = Frames(load.broken).all
    compare_ids(account, "table images, failed", broken, by_status.pop("failed", []))
    account.require("images in other states", {name: len(rows) for name, rows in by_status.items()}, {})
    sessions = await connection.fetch("SELECT id, status FROM inference_sessions")
    done = [row["id"] for row in sessions if row["status"] == "success"]
    failed = [row["id"] for row in sessions if row["status"] != "success"]
    compare_ids(account, "table inference_sessions", [event.id for event in events.all], done)
    compare_ids(account, "table inference_sessions, failed", {letter.id for letter in events.letters}, failed)
    found = await connection.fetch("SELECT id FROM detections")
    wanted = [each.id for event in events.all for each in event.detections]
    compare_ids(account, "table detections", wanted, [row["id"] for row in found])
    flown = [frame for device in load.devices if device.query for frame in device.accepted]
    compare_ids(account, f"frames of {FLIGHT}", flown, [row["id"] for row in images if row["flight_id"] == FLIGHT])


async def _compare_archive_rows(account: OutsAccount, connection: Connection, site: OutsSite, events: Events) -> None:
    """Each row names a path and a commit, and that commit has the picture there."""
    rows = await connection.fetch(
        "SELECT id, lakefs_path, lakefs_commit_id FROM images WHERE lakefs_commit_id IS NOT NULL"
    )
    compare_ids(
        account, "commits in table images", [event.frame_id for event in events.live], [row["id"] for row in rows]
    )
    digests = {event.frame_id: event.image.sha256 for event in events.live}
    commits = site.lakefs.repositories[REPOSITORY].commits
    for row in rows:
        commit = commits.get(row["lakefs_commit_id"])
        entry = None if commit is None else commit.objects.get(row["lakefs_path"])
        if entry is None or dict(entry.metadata).get("sha256") != digests.get(row["id"]):
            account.different.append(f"image {row['id']}: {row['lakefs_commit_id']} has not {row['lakefs_path']}")


def _compare_archive(account: OutsAccount, site: OutsSite, events: Events) -> None:
    """Each frame is one picture of the branch, and listed once."""
    repository = site.lakefs.repositories[REPOSITORY]
    objects = repository.head.objects
    account.require("changes that are not committed", sorted(repository.changes("main")), [])
    listed: list[UUID] = []
    places: Counter[str] = Counter()
    for path, entry in objects.items():
        folder, _, name = path.rpartition("/")
        if name.startswith("metadata"):
            for image in json.loads(site.lakefs.file_of(entry).read_bytes())["images"]:
                listed.append(UUID(image["frame_id"]))
                places[f"{folder}/{image['file']}"] += 1
    compare_ids(account, "listings of the archive", [event.frame_id for event in events.live], listed)
    pictures = {path for path in objects if not path.rpartition("/")[2].startswith("metadata")}
    account.require("pictures that no listing names", sorted(pictures - set(places)), [])
    account.require("pictures that are listed and missing", sorted(set(places) - pictures), [])
    account.counts["commits"] = len(repository.messages)


async def _compare_statistics(account: OutsAccount, connection: Connection, events: Events) -> None:
    for source, counted in (("live", events.live), ("jobs", events.owned)):
        row = await connection.fetchrow(
            "SELECT coalesce(sum(frames), 0)::int AS frames, coalesce(sum(detections), 0)::int AS detections "
            "FROM statistics_windows WHERE source = $1",
            source,
        )
        assert row is not None
        found = sum(len(event.detections) for event in counted)
        account.require(f"statistics of {source}: frames", row["frames"], len(counted))
        account.require(f"statistics of {source}: detections", row["detections"], found)
    rows = await connection.fetch("SELECT label, sum(detections)::int AS found FROM statistics_classes GROUP BY label")
    wanted = Counter(each.label for event in events.all for each in event.detections)
    account.require("statistics of classes", {row["label"]: row["found"] for row in rows}, dict(wanted))
    account.counts["statistics: detections"] = wanted.total()


async def _compare_annotations(account: OutsAccount, connection: Connection, site: OutsSite, events: Events) -> None:
    """Each frame of a medium in which something was found was taken once, by its key."""
    runs = {row["id"] for row in await connection.fetch("SELECT id FROM media_runs WHERE annotate")}
    wanted = [
        post_id(event.job_id, event.frame_id)
        for event in events.owned
        if event.job_id in runs and event.job_id is not None and event.detections
    ]
    taken = [UUID(post.key) for post in site.annotations.taken]
    compare_ids(account, "Annotations", wanted, taken, may_repeat=True)
    noted = await connection.fetchval("SELECT count(*) FROM annotation_posts WHERE posted")
    account.require("table annotation_posts", noted, len(wanted))


def _compare_calls(account: OutsAccount, listeners: Listeners, events: Events) -> None:
    frames = [UUID(each) for each in listeners.calls.about("detections.found", "frame_id")]
    compare_ids(account, "web-hooks", [event.frame_id for event in events.live if event.detections], frames)
    ended = listeners.calls.about("job.finished", "job_id")
    account.require("calls about jobs", len(ended), account.counts.get("jobs", 0))
    account.again["web-hooks"] = listeners.calls.again

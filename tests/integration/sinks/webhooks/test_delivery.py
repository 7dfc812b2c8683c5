"""Web-hooks are called once they are due, signed, within limits; what a receiver does decides what happens next."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import web
from standardwebhooks.webhooks import Webhook

from infra.database.pool import Database
from infra.encryption.box import SecretBox
from infra.failure.settings import RetrySettings
from schemas.events import Detection, DetectionsMade
from schemas.geometry import Box
from schemas.ids import detection_id
from schemas.job_events import JobFinished
from sinks.webhooks.intake import DetectionWebhooks, JobWebhooks
from sinks.webhooks.schedule import MAX_ATTEMPTS
from sinks.webhooks.sender import WebhookSender
from sinks.webhooks.settings import WebhookSettings
from standgale.testing.factories import detections_made
from tests.servers.console import RunningConsole, running_console
from tests.servers.http import serving

pytestmark = pytest.mark.integration

LOOPBACK = WebhookSettings(networks=("127.0.0.0/8",), timeout_s=1.0)
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOOKS = "/api/v1/webhooks"


class Receiver:
    """Answers calls as a test sets, and keeps them."""

    def __init__(self) -> None:
        self.calls: list[tuple[dict[str, str], bytes]] = []
        self.answer: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
        self.status = 204
        self.headers: dict[str, str] = {}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.calls.append((dict(request.headers), await request.read()))
        if self.answer is not None:
            return await self.answer(request)
        return web.Response(status=self.status, headers=self.headers)


class Site:
    """A console whose client keeps web-hooks, and the sender that calls them."""

    def __init__(self, console: RunningConsole, receiver: Receiver, url: str) -> None:
        self.console = console
        self.receiver = receiver
        self.url = url

    def sender(self, settings: WebhookSettings = LOOPBACK) -> WebhookSender:
        return WebhookSender(self.console.database, SecretBox([bytes(32)]), settings, RetrySettings())

    async def send(self, settings: WebhookSettings = LOOPBACK) -> None:
        """Attempt what is due, once."""
        sender = self.sender(settings)
        await sender.start_some()
        await sender.drain()

    async def add(self, **fields: Any) -> dict[str, Any]:
        response = await self.console.post(HOOKS, json={"url": self.url, **fields})
        assert response.status == 201, response.body
        return dict(response.json["data"])

    async def test(self, hook: dict[str, Any]) -> None:
        assert (await self.console.post(f"{HOOKS}/{hook['webhook_id']}/test")).status == 202

    async def deliveries(self, hook: dict[str, Any]) -> list[dict[str, Any]]:
        return list((await self.console.get(f"{HOOKS}/{hook['webhook_id']}/deliveries")).json["data"])

    async def get(self, hook: dict[str, Any]) -> dict[str, Any]:
        return dict((await self.console.get(f"{HOOKS}/{hook['webhook_id']}")).json["data"])

    async def run(self, statement: str, *values: object) -> None:
        async with self.console.database.acquire() as connection:
            await connection.execute(statement, *values)

    async def make_due(self) -> None:
        """Let as much time pass as the next attempt needs."""
        await self.run("UPDATE webhook_deliveries SET next_at = now() WHERE state = 'waiting'")


@asynccontextmanager
async def webhook_site(folder: Path, database: Database) -> AsyncIterator[Site]:
    receiver = Receiver()
    # Whether an address is called is checked again at the call, with the settings of that time.
    anywhere = WebhookSettings(networks=("0.0.0.0/0", "::/0"), require_https=False)
    async with running_console(folder, database, webhooks=anywhere) as console, serving(receiver.handle) as url:
        yield Site(console, receiver, url)


@pytest.fixture
async def site(tmp_path: Path, database: Database) -> AsyncIterator[Site]:
    async with webhook_site(tmp_path, database) as found:
        yield found


async def test_a_call_is_signed_with_both_secrets_during_a_rotation(site: Site) -> None:
    hook = await site.add()
    rotated = (await site.console.post(f"{HOOKS}/{hook['webhook_id']}/rotate")).json["data"]
    assert rotated["secret"] != hook["secret"]
    await site.test(hook)
    await site.send()
    [(headers, body)] = site.receiver.calls
    for secret in (hook["secret"], rotated["secret"]):
        assert Webhook(secret).verify(body, {name.lower(): value for name, value in headers.items()})["type"] == "test"
    [delivery] = await site.deliveries(hook)
    assert (delivery["state"], delivery["attempts"], delivery["last_status"]) == ("delivered", 1, 204)
    assert headers["webhook-id"] == delivery["delivery_id"]
    await site.run("UPDATE webhooks SET former_until = now() - interval '1 second'")
    await site.test(hook)
    await site.send()
    assert len(site.receiver.calls[1][0]["webhook-signature"].split()) == 1


async def test_secrets_are_shown_once_and_stored_encrypted(site: Site) -> None:
    hook = await site.add(description="mine")
    assert hook["secret"].startswith("whsec_")
    listed = (await site.console.get(HOOKS)).json["data"]
    assert [each["description"] for each in listed] == ["mine"]
    assert "secret" not in listed[0]
    async with site.console.database.acquire() as connection:
        row = await connection.fetchrow("SELECT * FROM webhooks")
    assert hook["secret"][6:].encode() not in bytes(row["secret"])
    other = await site.console.other_client()
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/rotate"), ("POST", "/test"), ("POST", "/redrive")):
        response = await site.console.request(method, f"{HOOKS}/{hook['webhook_id']}{path}", key=other)
        assert (response.status, response.code) == (404, "WEBHOOK_NOT_FOUND")


async def test_a_receiver_that_is_away_for_long_gets_its_delivery_later_or_a_redrive(site: Site) -> None:
    hook = await site.add()
    await site.test(hook)
    site.receiver.status = 500
    for attempt in range(1, MAX_ATTEMPTS + 1):
        await site.send()
        [delivery] = await site.deliveries(hook)
        assert delivery["attempts"] == attempt
        # Before its time it is not tried again.
        await site.send()
        assert len(site.receiver.calls) == attempt
        await site.make_due()
    assert (delivery["state"], delivery["last_status"]) == ("dead", 500)
    assert (await site.get(hook))["dead"] == 1
    site.receiver.status = 200
    assert (await site.console.post(f"{HOOKS}/{hook['webhook_id']}/redrive")).json["data"] == {"redriven": 1}
    await site.send()
    [delivery] = await site.deliveries(hook)
    assert (delivery["state"], delivery["attempts"]) == ("delivered", 1)
    assert len({headers["webhook-id"] for headers, _ in site.receiver.calls}) == 1


async def test_a_receiver_that_is_gone_is_called_no_more_until_a_redrive(site: Site) -> None:
    hook = await site.add()
    await site.test(hook)
    await site.test(hook)
    site.receiver.status = 410
    await site.send(LOOPBACK.model_copy(update={"concurrency": 1}))
    await site.send()
    assert len(site.receiver.calls) == 1
    found = await site.get(hook)
    assert (found["disabled_reason"], found["dead"], found["waiting"]) == ("the receiver answered 410 Gone", 2, 0)
    await site.console.post(f"{HOOKS}/{hook['webhook_id']}/redrive")
    site.receiver.status = 200
    await site.send()
    assert len(site.receiver.calls) == 3
    assert (await site.get(hook))["disabled_at"] is None


async def test_slow_receivers_redirects_and_endless_bodies_cost_one_attempt(site: Site) -> None:
    hook = await site.add()

    async def slow(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(5)
        return web.Response()

    async def inside(_: web.Request) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": site.url + "/inside"})

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(10_000):
            await response.write(b"x" * 65_536)
        return response

    for answer, error in ((slow, "no response within 1 s"), (inside, "redirects are not followed"), (endless, None)):
        site.receiver.answer = answer
        await site.test(hook)
        await site.send()
        newest = (await site.deliveries(hook))[0]
        assert (newest["last_error"] is None) if error is None else (error in newest["last_error"])
    assert len(site.receiver.calls) == 3


async def test_a_receiver_decides_to_be_asked_later(site: Site) -> None:
    hook = await site.add()
    await site.test(hook)
    site.receiver.status, site.receiver.headers = 503, {"Retry-After": "600"}
    await site.send()
    [delivery] = await site.deliveries(hook)
    wait = datetime.fromisoformat(delivery["next_at"]) - datetime.now(UTC)
    assert 580 < wait.total_seconds() < 610


async def test_addresses_inside_are_refused_when_they_are_called(site: Site) -> None:
    public = WebhookSettings(timeout_s=1.0)
    plain = public.model_copy(update={"require_https": False})
    inside = site.url.replace("127.0.0.1", "localhost")
    for url, settings in (
        (inside, plain),
        (site.url, plain),
        (site.url, public),
        ("https://169.254.169.254/latest", public),
        ("https://10.0.0.1/x", public),
        ("https://[::ffff:127.0.0.1]/x", public),
        ("https://0.0.0.0/x", public),
        ("https://100.100.100.200/x", public),
    ):
        hook = await site.add(url=url)
        await site.test(hook)
        await site.send(settings)
        [delivery] = await site.deliveries(hook)
        assert "is not allowed" in (delivery["last_error"] or ""), url
        await site.console.request("DELETE", f"{HOOKS}/{hook['webhook_id']}")
    assert site.receiver.calls == []


@pytest.mark.parametrize(
    ("field", "body"),
    [
        ("url", {"url": "ftp://example.org/"}),
        ("url", {"url": "https://user:pass@example.org/"}),
        ("url", {"url": "https://exa mple.org/"}),
        ("url", {"url": "https://example.org:99999/"}),
        ("url", {"url": "https://" + "a" * 3_000}),
        ("url", {}),
        ("events.0", {"url": "https://example.org", "events": ["everything"]}),
        ("conditions.min_confidence", {"url": "https://example.org", "conditions": {"min_confidence": 2}}),
        ("conditions.min_confidence", {"url": "https://example.org", "conditions": {"min_confidence": "0.5"}}),
        ("conditions.labels.0", {"url": "https://example.org", "conditions": {"labels": ["\0"]}}),
        ("description", {"url": "https://example.org", "description": "\0"}),
        ("secret", {"url": "https://example.org", "secret": "mine"}),
    ],
)
async def test_wrong_requests_name_their_field(site: Site, field: str, body: dict[str, Any]) -> None:
    response = await site.console.post(HOOKS, json=body)
    assert (response.status, response.code) == (400, "INVALID_CONFIG")
    assert response.json["errors"][0]["field"] == field


async def test_a_killed_sender_gives_its_calls_back(site: Site) -> None:
    hook = await site.add()
    await site.test(hook)
    never = asyncio.Event()

    async def hang(_: web.Request) -> web.StreamResponse:
        await never.wait()
        return web.Response()

    site.receiver.answer = hang
    sender = site.sender(LOOPBACK.model_copy(update={"timeout_s": 30.0}))
    assert await sender.start_some() == 1
    # Another one does not attempt it meanwhile.
    assert await site.sender().start_some() == 0
    for task in list(sender._running):
        task.cancel()
    await asyncio.gather(*list(sender._running), return_exceptions=True)
    site.receiver.answer = None
    await site.make_due()
    await site.send()
    [delivery] = await site.deliveries(hook)
    assert (delivery["state"], delivery["attempts"]) == ("delivered", 2)
    never.set()


async def test_one_receiver_that_hangs_does_not_keep_others_waiting(site: Site) -> None:
    hanging, never = await site.add(description="hanging"), asyncio.Event()
    other = await site.add(url=site.url + "/other")

    async def hang(request: web.Request) -> web.StreamResponse:
        if request.path != "/other":
            await never.wait()
        return web.Response()

    site.receiver.answer = hang
    for _ in range(20):
        await site.test(hanging)
    await site.test(other)
    sender = site.sender(LOOPBACK.model_copy(update={"concurrency": 6, "per_webhook": 2, "timeout_s": 5.0}))
    for _ in range(3):
        await sender.start_some()
        await asyncio.sleep(0.1)
    assert (await site.deliveries(other))[0]["state"] == "delivered"
    assert sum(each["attempts"] for each in await site.deliveries(hanging)) == 2
    never.set()
    await sender.drain()


def seen(
    number: int = 0, device: str = "drone-1", labels: Sequence[str] = ("bird",), scores: Sequence[float] = (0.9,)
) -> DetectionsMade:
    """The detections event of a frame, with one detection per label."""
    event = detections_made(number, device=device)
    box = Box(x1=0.1, y1=0.1, x2=0.2, y2=0.2)
    found = [
        Detection(id=detection_id(event.id, place), label=label, class_id=0, confidence=score, box=box)
        for place, (label, score) in enumerate(zip(labels, scores, strict=True))
    ]
    return event.model_copy(update={"detections": found})


def finished(job: str, row: Any, client: str = "desktop") -> JobFinished:
    counts = {"total_images": 1, "processed_images": 1, "failed_images": 0, "total_detections": 3}
    return JobFinished(
        id=uuid4(),
        job_id=job,
        job_uuid=row,
        client_id=client,
        status="completed",
        created_at=NOW,
        finished_at=NOW,
        **counts,
    )


async def test_the_end_of_a_job_calls_its_own_web_hook_and_those_for_all_jobs_once(site: Site) -> None:
    """C-S2-125."""
    everything, own, other = await site.add(), await site.add(events=[]), await site.add(events=[])
    row = uuid4()
    await site.run(
        "INSERT INTO jobs (id, job_id, client_id, config, total_images, webhook_id) "
        "SELECT $1, 'job_aaaabbbb', 'desktop', '{}', 1, id FROM webhooks WHERE webhook_id = $2",
        row,
        own["webhook_id"],
    )
    sink = JobWebhooks(site.console.database, LOOPBACK)
    event = finished("job_aaaabbbb", row)
    await sink.open()
    for _ in range(2):
        await sink.write([event])
    await site.send()
    counts = [len(await site.deliveries(hook)) for hook in (everything, own, other)]
    assert counts == [1, 1, 0]
    bodies = {body for _, body in site.receiver.calls}
    assert len(bodies) == 1
    body = json.loads(bodies.pop())
    assert (body["type"], body["data"]["job_id"], body["data"]["status"]) == (
        "job.finished",
        "job_aaaabbbb",
        "completed",
    )
    assert body["data"]["results_url"] == "/api/v1/jobs/job_aaaabbbb/results"
    assert "client_id" not in body["data"]


async def test_detections_that_fit_the_conditions_call_once_per_frame(site: Site) -> None:
    hook = await site.add(
        events=["detections.found"], conditions={"labels": ["bird"], "min_confidence": 0.5, "devices": ["drone-1"]}
    )
    picky = await site.add(events=["detections.found"], conditions={"min_count": 50})
    sink = DetectionWebhooks(site.console.database, LOOPBACK)
    await sink.open()
    event = seen(labels=("bird", "bird", "car"), scores=(0.9, 0.4, 0.9))
    of_another = seen(device="drone-2")
    for _ in range(2):
        await sink.write([event, of_another])
    await site.send()
    assert await site.deliveries(picky) == []
    [(_, body)] = site.receiver.calls
    data = json.loads(body)["data"]
    assert (data["device_id"], data["detection_count"]) == ("drone-1", 1)
    assert [(each["label"], each["confidence"]) for each in data["detections"]] == [("bird", 0.9)]
    assert len(await site.deliveries(hook)) == 1


async def test_deliveries_beyond_the_limit_are_dead_at_once_and_others_are_not(site: Site) -> None:
    full, free = await site.add(events=["detections.found"]), await site.add(events=[])
    sink = DetectionWebhooks(site.console.database, LOOPBACK.model_copy(update={"max_waiting": 3}))
    events = [seen(number) for number in range(5)]
    await sink.write(events[:2])
    await sink.write(events[2:])
    found = await site.get(full)
    assert (found["waiting"], found["dead"]) == (3, 2)
    await site.test(free)
    assert (await site.get(free))["waiting"] == 1

"""The clients on the page about reading the topics work: on a real Kafka, and on the embedded broker."""

from __future__ import annotations

import asyncio
import os
import re
import runpy
import shutil
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest
from aiokafka import AIOKafkaProducer

from infra.broker.embedded.adapter import EmbeddedBroker
from infra.broker.kafka.adapter import KafkaBroker
from infra.broker.open import embedded_file
from infra.broker.port import Broker
from infra.deploy.kafka import KafkaServer
from schemas.documents import GENERATED
from schemas.event_types import PYTHON_FILE, TYPESCRIPT_FILE
from schemas.events import DetectionsMade
from schemas.topics import DETECTIONS, load_topics
from standgale.testing.factories import detections_made, out_record
from tests.paths import ROOT
from tests.servers.kafka import kafka_settings

pytestmark = pytest.mark.integration

NODE_FOLDER = ROOT / "tests" / "consumers"
TIMEOUT_S = 60.0
_FILE = re.compile(r"^```(?:python|js)\n(?:#|//) (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_KCAT = re.compile(r"^\$ (kcat .*)$", re.MULTILINE)
PAGE = (ROOT / "docs" / "consume.md").read_text(encoding="utf-8")


def require(tool: str) -> str:
    found = shutil.which(tool)
    if found is None or (tool == "node" and not (NODE_FOLDER / "node_modules" / "kafkajs").is_dir()):
        reason = f"{tool} is not there; install kcat, nodejs and npm, and run `make test`"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


class Site:
    """A topic of this test's own with committed events, and in their middle one of a transaction that was aborted."""

    def __init__(self, server: KafkaServer, folder: Path) -> None:
        self.servers = server.bootstrap_servers
        self.name = f"consume-{uuid.uuid4().hex[:8]}"
        spec = load_topics()[DETECTIONS].model_copy(
            update={"name": self.name, "partitions": 2, "replication": 1, "min_insync_replicas": 1}
        )
        self.spec = spec
        self.broker: Broker = KafkaBroker(kafka_settings(server), {self.name: spec})
        self.folder = folder
        for name, text in _FILE.findall(PAGE):
            (folder / name).write_text(text, encoding="utf-8")

    async def publish(self, events: Sequence[DetectionsMade]) -> None:
        publisher = await self.broker.publisher()
        await publisher.publish([out_record(event, self.name) for event in events])
        await publisher.close()

    async def abort(self, event: DetectionsMade) -> None:
        record = out_record(event, self.name)
        producer = AIOKafkaProducer(bootstrap_servers=self.servers, transactional_id=self.name)
        await producer.start()
        await producer.begin_transaction()
        await producer.send_and_wait(record.topic, record.value, key=record.key.encode(), headers=list(record.headers))
        await producer.abort_transaction()
        await producer.stop()

    async def until_committed(self) -> None:
        """Wait until the group has committed everything: one that is ended before prints its last records again."""
        admin = await self.broker.admin()
        async with asyncio.timeout(TIMEOUT_S):
            while any((await admin.group_lag(self.name, [self.name])).values()):  # noqa: ASYNC110 (another process)
                await asyncio.sleep(0.05)
        await admin.close()

    @asynccontextmanager
    async def client(self, *command: str, **variables: str) -> AsyncIterator[asyncio.StreamReader]:
        environment = {**os.environ, "KAFKA": self.servers, "TOPIC": self.name, "GROUP": self.name, **variables}
        process = await asyncio.create_subprocess_exec(
            *command, env=environment, cwd=self.folder, stdout=subprocess.PIPE, stderr=None
        )
        assert process.stdout is not None
        try:
            yield process.stdout
        finally:
            process.terminate()
            await asyncio.wait_for(process.wait(), TIMEOUT_S)


@pytest.fixture
async def site(kafka_server: KafkaServer, tmp_path: Path) -> AsyncIterator[Site]:
    site = Site(kafka_server, tmp_path)
    admin = await site.broker.admin()
    await admin.apply([site.spec])
    await admin.close()
    yield site
    await site.broker.close()


def events_of(first: int, count: int) -> list[DetectionsMade]:
    return [detections_made(number, device=f"drone-{number % 3}") for number in range(first, first + count)]


async def lines_of(output: asyncio.StreamReader, count: int) -> list[list[str]]:
    async with asyncio.timeout(TIMEOUT_S):
        return [(await output.readline()).decode().split() for _ in range(count)]


def ids(lines: Sequence[Sequence[str]], device: str | None = None) -> list[str]:
    return [line[0] for line in lines if device in (None, line[1])]


def wanted(events: Sequence[DetectionsMade], device: str | None = None) -> list[str]:
    return [str(event.id) for event in events if device in (None, event.device_id)]


@pytest.mark.parametrize("language", ["python", "javascript"])
async def test_client_reads_committed_events_in_order_and_keeps_its_place(site: Site, language: str) -> None:
    if language == "python":
        command: tuple[str, ...] = (sys.executable, "-P", "read_detections.py")
    else:
        command = (require("node"), "read_detections.mjs")
        (site.folder / "node_modules").symlink_to(NODE_FOLDER / "node_modules")
    first, later = events_of(0, 10), events_of(20, 4)
    await site.publish(first[:5])
    await site.abort(detections_made(99, device="drone-0"))
    await site.publish(first[5:])
    async with site.client(*command) as output:
        lines = await lines_of(output, len(first))
        await site.until_committed()
    assert sorted(ids(lines)) == sorted(wanted(first))
    for device in ("drone-0", "drone-1", "drone-2"):
        assert ids(lines, device) == wanted(first, device)
    assert lines[0][3:] == ["car", "car"]
    await site.publish(later)
    async with site.client(*command) as output:
        again = await lines_of(output, len(later))
    assert sorted(ids(again)) == sorted(wanted(later))


async def test_kcat_prints_committed_events_with_key_and_headers(site: Site) -> None:
    require("kcat")
    events = events_of(0, 6)
    await site.publish(events[:3])
    await site.abort(detections_made(99))
    await site.publish(events[3:])
    (command,) = _KCAT.findall(PAGE)
    command = command.replace("127.0.0.1:9092", site.servers).replace("-t detections", f"-t {site.name}")
    done = await asyncio.to_thread(
        subprocess.run, ["sh", "-c", command], capture_output=True, text=True, timeout=TIMEOUT_S, check=True
    )
    found = {}
    for line in done.stdout.splitlines():
        _, _, key, headers, value = line.split(" ", 4)
        assert "ce_type=standgale.detections.made.v1" in headers
        found[str(orjson.loads(value)["id"])] = key
    assert found == {str(event.id): event.device_id for event in events}


async def test_embedded_client_reads_what_was_published(tmp_path: Path) -> None:
    for name, text in _FILE.findall(PAGE):
        (tmp_path / name).write_text(text, encoding="utf-8")
    data = tmp_path / "data"
    data.mkdir()
    broker, events = EmbeddedBroker(embedded_file(data), load_topics()), events_of(0, 7)
    publisher = await broker.publisher()
    await publisher.publish([out_record(event) for event in events])
    await publisher.close()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "read_anywhere.py"),
        env={**os.environ, "PYTHONPATH": str(ROOT), "STANDGALE_DATA_DIR": str(data)},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        lines = await lines_of(process.stdout, len(events))
    finally:
        process.terminate()
        await process.wait()
    assert sorted(ids(lines)) == sorted(wanted(events))
    await broker.close()


def test_clients_use_fields_that_the_types_have(tmp_path: Path) -> None:
    require("node")
    shutil.copy(GENERATED / TYPESCRIPT_FILE, tmp_path)
    text = (
        'import type { EventsByType } from "./standgale_events";\n'
        'export function labels(event: EventsByType["standgale.detections.made.v1"]): string[] {\n'
        "  return event.detections.map((each) => each.label);\n}\n"
    )
    (tmp_path / "right.ts").write_text(text)
    (tmp_path / "wrong.ts").write_text(text.replace("each.label", "each.lable"))
    compiler = [NODE_FOLDER / "node_modules" / ".bin" / "tsc", "--noEmit", "--strict", "--target", "es2022"]
    files = [tmp_path / "right.ts", tmp_path / "wrong.ts"]
    done = subprocess.run([*compiler, *files], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert "lable" in done.stdout
    assert [line for line in done.stdout.splitlines() if "error" in line and "wrong.ts" not in line] == []
    types = runpy.run_path(str(GENERATED / PYTHON_FILE))
    (client,) = [text for name, text in _FILE.findall(PAGE) if name == "read_detections.py"]
    for name, kind in (("event", "DetectionsMade"), ("each", "Detection")):
        used = set(re.findall(rf'{name}\["(\w+)"\]', client))
        assert used
        assert used <= types[kind].__annotations__.keys()

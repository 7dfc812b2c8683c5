"""Measures how many frames per second the archive links in LakeFS, over the bare calls of the same kind."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from urllib.parse import quote

import aiohttp
from pydantic import SecretStr

from bench.measure import take_turns
from bench.processes import measured
from bench.result import RATIO, Figure, Goal, Result
from infra.broker.embedded.adapter import EmbeddedBroker
from infra.broker.open import embedded_file
from infra.deploy.s3 import S3Server
from infra.storage.frames.s3 import S3FrameStore
from infra.storage.settings import FrameSettings
from schemas.events import DetectionsMade
from schemas.ids import detections_event_id, frame_id
from schemas.topics import load_topics
from sinks.lakefs.lakefs_archive import LakeFsArchive
from sinks.lakefs.settings import LakeFsSettings
from sinks.lakefs.sink import ArchiveSink
from standgale.testing.factories import detections_made, image_ref
from tests.servers.lakefs import ACCESS_KEY, SECRET_KEY

_FRAMES = 200
"""Frames of one commit"""
_AT_ONCE = 16
_REPOSITORY = "bird-detection"
_NOTE = (
    f"Commits of {_FRAMES} frames that lie in S3 (a real server on this machine). Bare: HEAD of each object, PUT of "
    "each link and the commit, so many at once as the sink makes. LakeFS is a double in a process of its own. The sink "
    "also reads and writes metadata.json, compares the branch before it commits, and reports the commit."
)


def run(quick: bool) -> Result:
    """Link frames by the sink and by bare calls, in turns."""
    return measured(lambda folder: _run(folder, quick))


@contextmanager
def _double(folder: Path) -> Iterator[str]:
    command = [sys.executable, "-P", "-m", "tests.servers.lakefs_process", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


async def _run(folder: Path, quick: bool) -> Result:
    commits, rounds = (1, 2) if quick else (3, 4)
    numbers = count()
    with _double(folder / "lakefs") as url, S3Server(folder / "buckets") as s3:
        fields = {"bucket": s3.bucket, "endpoint_url": s3.endpoint_url}
        keys = {"access_key": SecretStr(s3.access_key), "secret_key": SecretStr(s3.secret_key)}
        store = S3FrameStore(FrameSettings.model_validate({"kind": "s3", **fields, **keys}), folder / "spool")
        lakefs = {"kind": "lakefs", "endpoint_url": url, "access_key": ACCESS_KEY, "secret_key": SECRET_KEY}
        archive = LakeFsArchive(LakeFsSettings.model_validate({**lakefs, "link": "always"}), store)
        broker = EmbeddedBroker(embedded_file(folder), load_topics())
        sink = ArchiveSink(archive, broker, frames_per_commit=_FRAMES)
        await sink.open()
        pair = b64encode(f"{ACCESS_KEY}:{SECRET_KEY}".encode()).decode()
        headers = {"Authorization": f"Basic {pair}"}
        async with aiohttp.ClientSession(url, headers=headers) as session:

            async def ours() -> float:
                loads = [await _events(store, numbers) for _ in range(commits)]
                start = time.perf_counter()
                for events in loads:
                    await sink.write(events)
                return commits * _FRAMES / (time.perf_counter() - start)

            async def bare() -> float:
                loads = [await _events(store, numbers) for _ in range(commits)]
                client = await store._connection.client()
                start = time.perf_counter()
                for events in loads:
                    await _link_barely(session, client, events)
                return commits * _FRAMES / (time.perf_counter() - start)

            found = await take_turns(ours, bare, rounds)
        await sink.close()
        await broker.close()
        await store.close()
    return Result(
        "lakefs",
        "Archive: frames linked in LakeFS",
        (
            Figure("bare calls", found.bare_rate, "frames/s"),
            Figure("sink", found.our_rate, "frames/s"),
            Figure("sink over bare calls", found.ratio, RATIO, Goal(0.8)),
        ),
        (_NOTE,),
    )


async def _events(store: S3FrameStore, numbers: Iterator[int]) -> Sequence[DetectionsMade]:
    """Return events whose images are in the store."""
    turns = asyncio.Semaphore(_AT_ONCE)

    async def event(number: int) -> DetectionsMade:
        data = f"frame {number}".encode()
        digest = hashlib.sha256(data).hexdigest()
        async with turns:
            uri = await store.put(data, sha256=digest, media_type="image/jpeg")
        made = detections_made(number)
        frame = frame_id(made.device_id, made.captured_at, digest)
        own = detections_event_id(frame, None, "small", "1.0")
        return made.model_copy(update={"id": own, "frame_id": frame, "image": image_ref(data, uri)})

    return await asyncio.gather(*(event(next(numbers)) for _ in range(_FRAMES)))


async def _link_barely(session: aiohttp.ClientSession, client: object, events: Sequence[DetectionsMade]) -> None:
    turns = asyncio.Semaphore(_AT_ONCE)
    branch = f"/api/v1/repositories/{_REPOSITORY}/branches/main"

    async def link(event: DetectionsMade) -> None:
        bucket, _, key = event.image.uri.removeprefix("s3://").partition("/")
        async with turns:
            await client.head_object(Bucket=bucket, Key=key)  # type: ignore[attr-defined]
            body = {
                "staging": {"physical_address": event.image.uri},
                "checksum": event.image.sha256,
                "size_bytes": event.image.size_bytes,
                "content_type": "image/jpeg",
            }
            path = quote(f"bare/{event.image.sha256}.jpg", safe="")
            async with session.put(f"{branch}/staging/backing?path={path}", json=body) as response:
                response.raise_for_status()
                await response.read()

    await asyncio.gather(*map(link, events))
    async with session.post(f"{branch}/commits", json={"message": "bare", "metadata": {}}) as response:
        response.raise_for_status()
        await response.read()

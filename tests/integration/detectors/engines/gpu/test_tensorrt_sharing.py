"""An engine built once is fetched by others, in one folder or through the store."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from detectors.engines.artefact import ArtefactState, obtain_artefact
from detectors.engines.gpu.tensorrt_job import BuildJob
from detectors.store.folder import FolderBlobs
from detectors.store.versions import VersionStore
from infra.errors import TransientError
from schemas.event_base import ModelRef
from standgale.testing.graphs import write_model
from tests.harnesses.tensorrt import SPEC, builds, make_artefact, request


async def test_obtain_artefact_fetches_what_another_machine_published(tmp_path: Path) -> None:
    card = write_model(tmp_path / "model", SPEC)
    store = VersionStore(FolderBlobs(tmp_path / "store"), 10**9)
    await store.publish(card)
    states: list[ArtefactState] = []
    first = make_artefact(tmp_path, "first")
    assert not first.is_cached
    assert await obtain_artefact(first, store, states.append) == first.path
    assert states == ["downloading", "converting", "uploading"]
    assert [path.suffix for path in first.path.parent.iterdir() if path.suffix not in (".engine", ".lock")] == []
    states.clear()
    assert await obtain_artefact(first, store, states.append) == first.path
    assert states == []
    second = make_artefact(tmp_path, "second")
    assert await obtain_artefact(second, store, states.append) == second.path
    assert states == ["downloading"]
    assert second.path.read_bytes() == first.path.read_bytes()
    assert len(builds(tmp_path)) == 1
    second.load().close()
    await store.close()


class UnavailableStore(VersionStore):
    """A store whose artefacts cannot be reached."""

    async def fetch_artefact(self, model: ModelRef, name: str, model_cache: Path) -> Path | None:
        raise TransientError("the store does not respond")

    async def publish_artefact(self, model: ModelRef, file: Path) -> None:
        raise TransientError("the store does not respond")


async def test_obtain_artefact_works_while_the_model_store_is_unavailable(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    states: list[ArtefactState] = []
    made = make_artefact(tmp_path)
    store = UnavailableStore(FolderBlobs(tmp_path / "store"), 10**9)
    assert await obtain_artefact(made, store, states.append) == made.path
    assert states == ["downloading", "converting", "uploading"]
    assert "could not be published to the model store" in caplog.text
    assert await obtain_artefact(make_artefact(tmp_path, "other"), None, states.append)
    assert states[3:] == ["converting"]


async def test_of_two_workers_on_one_machine_one_builds_and_the_other_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_TENSORRT_SECONDS", "1")
    one, other = make_artefact(tmp_path), make_artefact(tmp_path)
    store = VersionStore(FolderBlobs(tmp_path / "store"), 10**9)
    await store.publish(tmp_path / "model" / "model.yaml")
    reports: list[list[ArtefactState]] = [[], []]
    await asyncio.gather(
        obtain_artefact(one, store, reports[0].append), obtain_artefact(other, store, reports[1].append)
    )
    assert len(builds(tmp_path)) == 1
    assert sorted(reports, key=len) == [["downloading", "converting"], ["downloading", "converting", "uploading"]]


def test_build_job_ends_when_its_parent_process_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_TENSORRT", "hang")
    wanted = request(tmp_path / "model")
    job = BuildJob(
        model=wanted.path,
        output=tmp_path / "made.engine",
        input=wanted.input,
        constants={},
        batch=4,
        precision="f32",
        workspace_bytes=2**20,
    )
    (tmp_path / "job.json").write_text(job.model_dump_json() + "\n")
    script = (
        "import subprocess, sys; command = [sys.executable, '-m', 'detectors.engines.gpu.tensorrt_build']; "
        "builder = subprocess.Popen(command, stdin=subprocess.PIPE); "
        "builder.stdin.write(open(sys.argv[1], 'rb').read()); builder.stdin.flush(); builder.wait()"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "job.json")], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not builds(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    (builder,) = builds(tmp_path)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while time.monotonic() < deadline:
        try:
            os.kill(builder, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("the builder outlived its parent")

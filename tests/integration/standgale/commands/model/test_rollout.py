"""`standgale model activate | rollback | status` beside a running worker, as operators and their scripts use it."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path

import orjson
import pytest

from detectors.model.loading import LoadRequest, load_model
from detectors.model.predict import Model
from detectors.settings import DetectorSettings, ModelStoreSettings
from detectors.store.open import open_model_store
from detectors.store.versions import VersionStore
from detectors.worker.rollout.model_loader import ModelSource
from standgale.cli import main
from tests.harnesses.model_versions import NAME, write_version
from tests.harnesses.worker_site import WorkerSite

pytestmark = pytest.mark.integration


class Site:
    """A data folder with a broker and a model store; workers run here, the command line in processes of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.site = WorkerSite(folder)
        self.store: VersionStore = open_model_store(ModelStoreSettings(), folder)

    async def push(self, version: str, scores: float = 1.0) -> Path:
        card = write_version(self.folder / "made", version, scores)
        await self.store.publish(card)
        return card

    async def standgale(self, *arguments: str, status: int = 0) -> str:
        """What the verb prints. Run in this process: a test that starts twenty others waits for their imports."""
        found, text = await asyncio.to_thread(_said, self.folder, *arguments)
        assert found == status, f"{found}\n{text}"
        return text

    async def until_told(self) -> None:
        """The worker has said that it serves."""
        deadline = time.monotonic() + 30
        while "enabled" not in await self.standgale("status"):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)


def _said(folder: Path, *arguments: str) -> tuple[int, str]:
    text = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(text), redirect_stderr(text):
        patch.setenv("STANDGALE_DATA_DIR", str(folder))
        patch.setenv("COLUMNS", "250")
        patch.setattr(sys, "argv", ["standgale", "model", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    return int(ended.value.code or 0), text.getvalue()


def load(card: Path, busy: bool = False) -> Model:
    return load_model(LoadRequest(card, "onnxruntime", 1))


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        site = Site(tmp_path)
        stack.push_async_callback(site.site.broker.close)
        stack.push_async_callback(site.site.store.close)
        stack.push_async_callback(site.store.close)
        yield site


async def test_version_is_canary_then_activated_then_rolled_back(site: Site) -> None:
    own = await site.push("1.0.0")
    await site.push("2.0.0", 0.8)
    parts = site.site.parts(
        load_model=partial(load, own),
        models=ModelSource(site.store, site.folder / "cache", load),
        instance_id="worker-1",
        settings=DetectorSettings(report_interval_s=0.5),
    )
    nothing = await site.standgale("status")
    assert "no worker has reported" in nothing
    early = await site.standgale("activate", NAME, "1.0.0", "--wait")
    assert "no worker runs in lane default" in early
    async with site.site.run_workers(parts):
        await site.until_told()
        tried = await site.standgale("activate", NAME, "2.0.0", "--canary-share", "0.1", "--wait")
        assert "canary rectangles 2.0.0 with 10% of all frames" in tried
        assert "1 of 1 worker ready" in tried
        printed = orjson.loads(await site.standgale("status", "--json"))
        assert [(one["role"], one["state"]) for one in printed[0]["workers"][0]["models"]] == [
            ("stable", "enabled"),
            ("canary", "enabled"),
        ]
        await site.standgale("activate", NAME, "2.0.0", "--wait", "--comment", "good")
        shown = await site.standgale("status")
        assert "lane default: rectangles 2.0.0 (since" in shown
        assert ": good)" in shown
        assert "worker-1" in shown
        assert "1.0.0" not in shown
        await site.standgale("rollback", "--wait")
        assert "lane default: rectangles 1.0.0" in await site.standgale("status")


async def test_invalid_activation_is_refused_with_the_reason(site: Site) -> None:
    own = await site.push("1.0.0")
    parts = site.site.parts(
        load_model=partial(load, own),
        models=ModelSource(site.store, site.folder / "cache", load),
        instance_id="worker-1",
        settings=DetectorSettings(report_interval_s=0.5),
    )
    assert "has no rectangles 9.9.9" in await site.standgale("activate", NAME, "9.9.9", status=2)
    for wrong, words in (
        (("../rectangles", "1.0.0"), "is no name of a model"),
        ((NAME, "1.0.0", "--lane", "Not a lane"), "lane: received 'Not a lane'"),
        ((NAME, "1.0.0", "--canary-device", "no device"), "devices: received 'no device'"),
        ((NAME, "1.0.0", "--comment", "x" * 1001), "comment: received"),
    ):
        assert words in await site.standgale("activate", *wrong, "--force", status=2)
    assert "nothing was activated" in await site.standgale("rollback", status=2)
    assert "more than 0" in await site.standgale("activate", NAME, "1.0.0", "--canary-share", "0", status=2)
    async with site.site.run_workers(parts):
        await site.until_told()
        # With --force a worker is the first to notice.
        missing = await site.standgale("activate", NAME, "9.9.9", "--force", "--wait", status=1)
        assert "worker-1 refuses rectangles 9.9.9: " in missing
        assert "standgale model rollback" in missing
        assert "9.9.9" in await site.standgale("status")
        await site.standgale("rollback", "--wait")
        printed = orjson.loads(await site.standgale("status", "--json"))
        assert printed[0]["workers"][0]["state"] == "enabled"


def test_rollback_without_activation_exits_with_2_as_a_process(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "standgale", "model", "rollback"],
        env={**os.environ, "STANDGALE_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "nothing was activated" in done.stderr

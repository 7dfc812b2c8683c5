"""Tests of what a model store behind a network does when a transfer is cut, makes no progress, or is slow."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from detectors.errors import ModelLoadError, ModelStoreUnavailableError
from detectors.store.versions import VersionStore
from standgale.testing.factories import model_ref
from standgale.testing.gate import TIMEOUT_S, Gate
from standgale.testing.model_store.harness import MEGABYTE, ModelStoreHarness, files_below, make_model

LARGE = 24 * MEGABYTE


class NetworkHarness(ModelStoreHarness):
    """A harness whose place is a server behind a :class:`standgale.testing.gate.Gate`."""

    gate: Gate
    """What the store's connections go through."""

    def store_with_timeout(self, timeout_s: float) -> VersionStore:
        """Open a store that gives a transfer up after ``timeout_s`` without progress."""
        raise NotImplementedError


async def require_no_version(harness: ModelStoreHarness, folder: Path) -> None:
    """Require that the store has no version 1.0.0 of the model; ``folder`` is for what must not come."""
    with pytest.raises(ModelLoadError, match=r"no finder 1\.0\.0"):
        await harness.store().fetch(model_ref(), folder / "too early")
    if harness.lists_versions:
        assert list(await harness.store().versions()) == []


class TransferContract:
    """What a store behind a network does when transfers fail; a subclass gives the fixture ``network``."""

    @pytest.fixture
    def network(self) -> NetworkHarness:
        """Gives the author's place for models behind a gate; closes its stores after the test."""
        raise NotImplementedError(f"{type(self).__name__} must have a fixture `network` that gives a NetworkHarness")

    async def test_interrupted_download_leaves_no_file_and_works_again(
        self, network: NetworkHarness, tmp_path: Path
    ) -> None:
        card = make_model(tmp_path / "mine", size=LARGE, tokenizer=True)
        await network.store().publish(card)
        store = network.store()
        network.gate.limit("down", LARGE // 2, "cut")
        with pytest.raises(ModelStoreUnavailableError):
            await store.fetch(model_ref(), tmp_path / "fetched")
        assert network.gate.reached.is_set()
        assert files_below(tmp_path / "fetched") == {}
        network.gate.reopen()
        await store.fetch(model_ref(), tmp_path / "fetched")
        assert len(files_below(tmp_path / "fetched")) == 3

    async def test_interrupted_upload_is_not_visible_and_works_again(
        self, network: NetworkHarness, tmp_path: Path
    ) -> None:
        card = make_model(tmp_path / "mine", size=LARGE)
        store = network.store()
        network.gate.limit("up", LARGE // 2, "cut")
        with pytest.raises(ModelStoreUnavailableError):
            await store.publish(card)
        assert network.gate.reached.is_set()
        network.gate.reopen()
        await require_no_version(network, tmp_path)
        await store.publish(card)
        await store.fetch(model_ref(), tmp_path / "fetched")

    @pytest.mark.parametrize("direction", ["down", "up"])
    async def test_transfer_without_progress_is_given_up(
        self, network: NetworkHarness, tmp_path: Path, direction: str
    ) -> None:
        card = make_model(tmp_path / "mine", size=LARGE)
        store = network.store_with_timeout(0.7)
        if direction == "down":
            await network.store().publish(card)
            network.gate.limit("down", LARGE // 2, "hold")
        else:
            network.gate.limit("up", LARGE // 2, "hold")
        started = time.monotonic()
        with pytest.raises(ModelStoreUnavailableError):
            await (store.fetch(model_ref(), tmp_path / "fetched") if direction == "down" else store.publish(card))
        assert network.gate.reached.is_set()
        assert time.monotonic() - started < 20
        assert files_below(tmp_path / "fetched") == {}

    async def test_slow_transfer_with_progress_is_not_given_up(self, network: NetworkHarness, tmp_path: Path) -> None:
        gate = network.gate
        card = make_model(tmp_path / "mine", size=LARGE)
        store = network.store_with_timeout(1.5)

        async def hold_now_and_then(direction: str) -> None:
            for stop in (1, 2, 3):
                gate.limit("down" if direction == "down" else "up", LARGE // 8, "hold")
                assert await asyncio.to_thread(gate.reached.wait, TIMEOUT_S), f"stop {stop} was not reached"
                await asyncio.sleep(0.7)
                gate.go_on()

        started = time.monotonic()
        await asyncio.gather(store.publish(card), hold_now_and_then("up"))
        await asyncio.gather(store.fetch(model_ref(), tmp_path / "fetched"), hold_now_and_then("down"))
        assert time.monotonic() - started > 4.2, "both took longer than the setting, and neither was given up"

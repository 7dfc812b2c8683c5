"""Tests of model stores that several processes use: artefacts, outages, and work at the same time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from detectors.errors import ModelLoadError, ModelStoreUnavailableError
from infra.errors import TransientError
from standgale.testing.factories import model_ref
from standgale.testing.model_store.harness import MEGABYTE, ModelStoreHarness, digest, files_below, make_model

KEY = "finder/1.0.0/"


class SharingContract:
    """What :mod:`detectors.store.port` promises when several processes use a store, and while it is unavailable."""

    async def test_artefact_is_fetched_and_can_be_replaced(
        self, harness: ModelStoreHarness, tmp_path: Path, into: Path
    ) -> None:
        engine = tmp_path / "finder.cc9.0.engine"
        store = harness.store()
        assert await store.fetch_artefact(model_ref(), engine.name, into) is None
        for content in (b"engine" * 1000, b"better" * 1000):
            engine.write_bytes(content)
            await store.publish_artefact(model_ref(), engine)
            await store.publish_artefact(model_ref(), engine)
            fetched = await harness.store().fetch_artefact(model_ref(), engine.name, into)
            assert fetched == into / "finder" / "1.0.0" / engine.name
            assert fetched.read_bytes() == content
        # Artefacts do not make a version, and do not stand in the way of one.
        await store.publish(make_model(tmp_path / "mine"))
        await store.fetch(model_ref(), into)
        assert {Path(name).name for name in files_below(into)} == {engine.name, "model.yaml", "model.onnx"}

    async def test_damaged_artefact_counts_as_none_until_published_again(
        self, harness: ModelStoreHarness, tmp_path: Path, into: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        engine = tmp_path / "finder.engine"
        engine.write_bytes(b"engine" * 1000)
        await harness.store().publish_artefact(model_ref(), engine)
        await harness.alter(KEY + engine.name, b"Engine" * 1000)
        assert await harness.store().fetch_artefact(model_ref(), engine.name, into) is None
        assert "finder.engine has SHA-256" in caplog.text
        assert files_below(into) == {}
        await harness.store().publish_artefact(model_ref(), engine)
        assert await harness.store().fetch_artefact(model_ref(), engine.name, into) is not None

    async def test_unavailable_store_raises_transient_error(
        self, harness: ModelStoreHarness, tmp_path: Path, into: Path
    ) -> None:
        card = make_model(tmp_path / "mine")
        store = harness.store()
        await store.publish(card)
        harness.take_away()
        try:
            for work in (
                store.fetch(model_ref(), into),
                store.publish(card),
                store.fetch_artefact(model_ref(), "engine", into),
                store.publish_artefact(model_ref(), card.parent / "model.onnx"),
                *([store.versions()] if harness.lists_versions else []),
            ):
                with pytest.raises(TransientError):
                    await work
        finally:
            harness.bring_back()
        await store.fetch(model_ref(), into)
        assert len(files_below(into)) == 2

    async def test_full_or_missing_cache_disk_is_named_in_error(
        self, harness: ModelStoreHarness, tmp_path: Path
    ) -> None:
        await harness.store().publish(make_model(tmp_path / "mine"))
        (tmp_path / "file").write_text("")
        with pytest.raises(ModelStoreUnavailableError, match="STANDGALE_MODELS__CACHE"):
            await harness.store().fetch(model_ref(), tmp_path / "file")

    async def test_concurrent_fetches_all_get_the_version(
        self, harness: ModelStoreHarness, tmp_path: Path, into: Path
    ) -> None:
        await harness.store().publish(make_model(tmp_path / "mine", size=3 * MEGABYTE, tokenizer=True))
        cards = await asyncio.gather(*(harness.store().fetch(model_ref(), into) for _ in range(5)))
        assert len(set(cards)) == 1
        assert len(files_below(into)) == 3

    async def test_concurrent_publish_of_two_contents_keeps_one(
        self, harness: ModelStoreHarness, tmp_path: Path, into: Path
    ) -> None:
        mine = [make_model(tmp_path / str(number), size=100_000) for number in range(3)]
        done = await asyncio.gather(*(harness.store().publish(card) for card in mine), return_exceptions=True)
        assert all(each == model_ref() or isinstance(each, ModelLoadError | TransientError) for each in done)
        stored = await harness.content(KEY + "model.yaml")
        (winner,) = [card for card in mine if card.read_bytes() == stored]
        await harness.store().publish(winner)
        await harness.store().fetch(model_ref(), into)
        assert digest(into / KEY / "model.onnx") == digest(winner.parent / "model.onnx")

    async def test_second_concurrent_put_new_returns_false(self, harness: ModelStoreHarness) -> None:
        if not harness.refuses_to_replace:
            pytest.skip(f"{type(harness).__name__} knows no conditions, so that `new` changes nothing")
        blobs = harness.open_blobs()
        assert await blobs.put(KEY + "model.yaml", b"first", new=True)
        assert not await blobs.put(KEY + "model.yaml", b"second", new=True)
        await blobs.close()
        assert await harness.content(KEY + "model.yaml") == b"first"

    async def test_on_transfer_is_called_until_the_end(
        self, harness: ModelStoreHarness, tmp_path: Path, into: Path
    ) -> None:
        reported: list[tuple[str, int, int | None]] = []
        store = harness.store(lambda *each: reported.append(each))
        card = make_model(tmp_path / "mine", size=20 * MEGABYTE)
        size = (card.parent / "model.onnx").stat().st_size
        await store.publish(card)
        assert reported[-1] == (KEY + "model.onnx", size, size)
        reported.clear()
        await store.fetch(model_ref(), into)
        moved = [count for _, count, _ in reported]
        assert moved == sorted(moved)
        assert reported[-1] == (KEY + "model.onnx", size, size)

    async def test_close_may_be_repeated(self, harness: ModelStoreHarness) -> None:
        store = harness.store()
        await store.close()
        await store.close()

"""Tests that model versions are published, checked and fetched, and that damaged ones are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from detectors.card.card import read_card, verified_model_file
from detectors.errors import ModelLoadError, ModelStoreError
from schemas.event_base import ModelRef
from standgale.testing.factories import model_ref
from standgale.testing.model_store.harness import MEGABYTE, ModelStoreHarness, digest, files_below, make_model
from standgale.testing.model_store.sharing import KEY, SharingContract


def with_field(card: Path, **changes: object) -> Path:
    card.write_text(yaml.safe_dump({**yaml.safe_load(card.read_text()), **changes}))
    return card


async def listed(harness: ModelStoreHarness) -> list[ModelRef]:
    return list(await harness.store().versions())


class ModelStoreContract(SharingContract):
    """All that :mod:`detectors.store.port` promises; a subclass gives the fixture ``harness``."""

    @pytest.fixture
    def harness(self) -> ModelStoreHarness:
        """Gives the author's place for models; closes its stores after the test."""
        raise NotImplementedError(f"{type(self).__name__} must have a fixture `harness` that gives a ModelStoreHarness")

    @pytest.fixture
    def into(self, tmp_path: Path) -> Path:
        """The folder that models are fetched into."""
        return tmp_path / "fetched"

    @pytest.mark.parametrize("size", [1000, 40 * MEGABYTE])
    async def test_fetched_model_has_the_published_bytes(
        self, harness: ModelStoreHarness, tmp_path: Path, into: Path, size: int
    ) -> None:
        card = make_model(tmp_path / "mine", size=size, tokenizer=True)
        assert await harness.store().publish(card) == model_ref()
        fetched = await harness.store().fetch(model_ref(), into)
        assert fetched == into / "finder" / "1.0.0" / "model.yaml"
        assert files_below(into) == {KEY + name: content for name, content in files_below(card.parent).items()}
        assert verified_model_file(read_card(fetched), fetched).name == "model.onnx"

    async def test_card_is_read_without_the_files_of_its_version(
        self, harness: ModelStoreHarness, tmp_path: Path
    ) -> None:
        card = make_model(tmp_path / "mine", tokenizer=True)
        await harness.store().publish(card)
        assert await harness.store().card(model_ref()) == read_card(card)
        with pytest.raises(ModelLoadError, match=r"no finder 3\.0\.0"):
            await harness.store().card(model_ref("3.0.0"))

    async def test_external_weights_are_published_and_fetched(
        self, harness: ModelStoreHarness, tmp_path: Path, into: Path
    ) -> None:
        card = make_model(tmp_path / "mine", external=True)
        await harness.store().publish(card)
        await harness.store().fetch(model_ref(), into)
        assert (into / KEY / "model.onnx.data").read_bytes() == (tmp_path / "mine" / "model.onnx.data").read_bytes()

    async def test_publish_refuses_file_without_checksum_in_card(
        self, harness: ModelStoreHarness, tmp_path: Path
    ) -> None:
        for mine, options in ((tmp_path / "a", {"external": True}), (tmp_path / "b", {"tokenizer": True})):
            card = with_field(make_model(mine, **options), files={})  # type: ignore[arg-type]
            name = "model.onnx.data" if "external" in options else "tokenizer.json"
            with pytest.raises(ModelLoadError, match=rf"files: \{{{name}: {digest(mine / name)}\}}"):
                await harness.store().publish(card)
        with pytest.raises(ModelLoadError):
            await harness.store().fetch(model_ref(), tmp_path / "fetched")

    async def test_versions_are_listed_by_name_and_number(self, harness: ModelStoreHarness, tmp_path: Path) -> None:
        for name, version in (("finder", "1.10.0"), ("finder", "1.9.0"), ("boats", "2"), ("finder", "1.9.0-rc1")):
            await harness.store().publish(make_model(tmp_path / name / version, name=name, version=version))
        await harness.store().publish_artefact(model_ref("1.9.0"), tmp_path / "boats" / "2" / "model.onnx")
        if not harness.lists_versions:
            with pytest.raises(ModelStoreError, match="cannot list its models"):
                await listed(harness)
            return
        expected = [("boats", "2"), ("finder", "1.9.0"), ("finder", "1.9.0-rc1"), ("finder", "1.10.0")]
        assert [(each.name, each.version) for each in await listed(harness)] == expected

    async def test_an_empty_store_has_no_versions(self, harness: ModelStoreHarness) -> None:
        if harness.lists_versions:
            assert await listed(harness) == []

    async def test_fetch_of_unknown_version_names_the_known_versions(
        self, harness: ModelStoreHarness, tmp_path: Path, into: Path
    ) -> None:
        for version in ("1.0.0", "2.0.0"):
            await harness.store().publish(make_model(tmp_path / version, version=version))
        expected = "cannot list its models" if not harness.lists_versions else r"there are 1\.0\.0, 2\.0\.0"
        with pytest.raises(ModelLoadError, match=rf"no finder 3\.0\.0: .*{expected}"):
            await harness.store().fetch(model_ref("3.0.0"), into)
        assert files_below(into) == {}

    async def test_fetched_version_is_not_fetched_again(
        self, harness: ModelStoreHarness, tmp_path: Path, into: Path
    ) -> None:
        await harness.store().publish(make_model(tmp_path / "mine", tokenizer=True))
        fetched = await harness.store().fetch(model_ref(), into)
        store = harness.store()
        harness.take_away()
        try:
            assert await store.fetch(model_ref(), into) == fetched
        finally:
            harness.bring_back()

    @pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "model.yaml"])
    async def test_damaged_file_in_the_cache_is_fetched_again(
        self, harness: ModelStoreHarness, tmp_path: Path, into: Path, name: str
    ) -> None:
        await harness.store().publish(make_model(tmp_path / "mine", tokenizer=True))
        await harness.store().fetch(model_ref(), into)
        whole = files_below(into)
        (into / KEY / name).write_bytes(b"{ damaged")
        await harness.store().fetch(model_ref(), into)
        assert files_below(into) == whole

    @pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
    async def test_damaged_file_in_the_store_is_refused_until_published_again(
        self, harness: ModelStoreHarness, tmp_path: Path, into: Path, name: str
    ) -> None:
        card = make_model(tmp_path / "mine", tokenizer=True)
        await harness.store().publish(card)
        right = digest(card.parent / name)
        content = await harness.content(KEY + name)
        await harness.alter(KEY + name, content[:-1] + bytes([content[-1] ^ 1]))
        store = harness.store()
        with pytest.raises(ModelLoadError, match=f"{name} has SHA-256 [0-9a-f]{{64}}, expected is {right}") as caught:
            await store.fetch(model_ref(), into)
        assert store.where in str(caught.value)
        assert files_below(into) == {}
        await harness.store().publish(card)
        await harness.store().fetch(model_ref(), into)
        assert digest(into / KEY / name) == right

    async def test_publishing_the_same_version_again_changes_nothing(
        self, harness: ModelStoreHarness, tmp_path: Path
    ) -> None:
        card = make_model(tmp_path / "mine")
        await harness.store().publish(card)
        before = await harness.content(KEY + "model.yaml")
        card.write_text("# Another comment.\n" + card.read_text())
        assert await harness.store().publish(card) == model_ref()
        assert await harness.content(KEY + "model.yaml") == before

    async def test_publish_refuses_other_content_under_an_existing_version(
        self, harness: ModelStoreHarness, tmp_path: Path, into: Path
    ) -> None:
        first = make_model(tmp_path / "first")
        await harness.store().publish(first)
        for other in (make_model(tmp_path / "other"), with_field(make_model(tmp_path / "third"), licence="MIT")):
            with pytest.raises(ModelLoadError, match=r"finder 1\.0\.0 exists with other content .* another version"):
                await harness.store().publish(other)
        await harness.store().fetch(model_ref(), into)
        assert digest(into / KEY / "model.onnx") == digest(first.parent / "model.onnx")

    async def test_publish_refuses_model_that_differs_from_its_card(
        self, harness: ModelStoreHarness, tmp_path: Path, into: Path
    ) -> None:
        card = make_model(tmp_path / "mine")
        (tmp_path / "mine" / "model.onnx").write_bytes(b"something else")
        with pytest.raises(ModelLoadError, match="SHA-256"):
            await harness.store().publish(card)
        (tmp_path / "mine" / "model.onnx").unlink()
        with pytest.raises(ModelLoadError, match="cannot be read"):
            await harness.store().publish(card)
        with pytest.raises(ModelLoadError, match=r"no finder 1\.0\.0"):
            await harness.store().fetch(model_ref(), into)

    @pytest.mark.parametrize(
        "field", [{"file": "../model.onnx"}, {"file": "model.yaml"}, {"files": {"/etc/passwd": "0" * 64}}]
    )
    async def test_card_that_names_files_outside_its_folder_is_refused(
        self, harness: ModelStoreHarness, tmp_path: Path, into: Path, field: dict[str, object]
    ) -> None:
        card = with_field(make_model(tmp_path / "mine"), **field)
        (tmp_path / "model.onnx").write_bytes((tmp_path / "mine" / "model.onnx").read_bytes())
        with pytest.raises(ModelLoadError, match="cannot be in a model store"):
            await harness.store().publish(card)
        await harness.alter(KEY + "model.yaml", card.read_bytes())
        with pytest.raises(ModelLoadError, match="cannot be in a model store"):
            await harness.store().fetch(model_ref(), into)
        assert files_below(into) == {}

    @pytest.mark.parametrize(
        ("name", "version"), [("..", "1"), ("a/b", "1"), ("a", "../1"), (".hidden", "1"), ("a", "1\n")]
    )
    async def test_names_that_could_leave_the_store_are_refused(
        self, harness: ModelStoreHarness, tmp_path: Path, into: Path, name: str, version: str
    ) -> None:
        wanted = model_ref(version, name)
        file = tmp_path / "file"
        file.write_bytes(b"x")
        store = harness.store()
        for work in (
            store.fetch(wanted, into),
            store.fetch_artefact(wanted, "engine", into),
            store.publish_artefact(wanted, file),
        ):
            with pytest.raises(ModelLoadError, match=r"is no (name|version) of a model"):
                await work
        for artefact in ("../engine", "a/b", "model.yaml", "x.sha256", ".x", ""):
            with pytest.raises(ModelLoadError, match="cannot be in a model store"):
                await store.fetch_artefact(model_ref(), artefact, into)

    async def test_fetch_refuses_card_of_another_version(
        self, harness: ModelStoreHarness, tmp_path: Path, into: Path
    ) -> None:
        await harness.alter(KEY + "model.yaml", make_model(tmp_path / "mine", version="2.0.0").read_bytes())
        with pytest.raises(ModelLoadError, match=r"is that of finder 2\.0\.0"):
            await harness.store().fetch(model_ref(), into)

    async def test_fetch_refuses_oversized_card_without_reading_all_of_it(
        self, harness: ModelStoreHarness, into: Path
    ) -> None:
        await harness.alter(KEY + "model.yaml", b"name: [")
        with pytest.raises(ModelLoadError, match="not YAML"):
            await harness.store().fetch(model_ref(), into)
        await harness.alter(KEY + "model.yaml", b"#" * 2_000_000)
        with pytest.raises(ModelLoadError, match="more than 1000000 bytes"):
            await harness.store().fetch(model_ref(), into)

    async def test_fetch_refuses_file_larger_than_max_file_bytes(
        self, harness: ModelStoreHarness, tmp_path: Path, into: Path
    ) -> None:
        await harness.store().publish(make_model(tmp_path / "mine", size=2000))
        with pytest.raises(ModelLoadError, match="STANDGALE_MODELS__MAX_FILE_BYTES"):
            await harness.store(max_file_bytes=1500).fetch(model_ref(), into)
        assert files_below(into) == {}

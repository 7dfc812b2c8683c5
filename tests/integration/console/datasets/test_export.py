"""Export and comparison of data sets: interrupted, damaged, and different ones."""

from __future__ import annotations

import errno
from datetime import timedelta
from pathlib import Path

import pytest

from console.datasets.diff import diff_datasets
from console.datasets.errors import DatasetBusyError, DatasetDamagedError, DatasetExistsError, DatasetOptionError
from console.datasets.export import Exported, ExportRequest, export_dataset, find_dataset
from console.datasets.splits import parse_shares
from console.datasets.stores.folder import FolderDatasets
from console.datasets.stores.port import DatasetStore
from infra.lakefs.errors import LakeFsUnavailableError
from infra.storage.durable_files import locked_folder, write_synced
from tests.harnesses.datasets import DAY, DatasetSite, content_of
from tests.integration.console.datasets.conftest import lakefs_store
from tests.servers.lakefs import LakeFsServer

pytestmark = pytest.mark.integration


async def export(store: DatasetStore, folder: Path, **given: object) -> Exported:
    return await export_dataset(store, ExportRequest("birds", folder, **given), lambda done, total: None)  # type: ignore[arg-type]


async def fill(site: DatasetSite) -> None:
    for day in range(3):
        await site.add("cam-1", [("bird", 0.9)], day=day)


async def test_interrupted_export_continues_and_repairs_files(
    site: DatasetSite, store: DatasetStore, tmp_path: Path
) -> None:
    await fill(site)
    await site.create(store)
    folder = tmp_path / "out"
    whole = await export(store, folder)
    assert whole.downloaded == whole.files
    content = content_of(folder)
    for path in ("dataset.json", "data.yaml", "pictures.jsonl"):
        (folder / path).unlink()
    (folder / ".dataset-export").write_text(whole.manifest.id)
    picture = next(folder.glob("images/train/*"))
    picture.write_bytes(b"x" * picture.stat().st_size)
    (folder / "images/train/.rest.jpg.part").write_bytes(b"half")
    again = await export(store, folder)
    assert again.downloaded == 3
    (folder / "images/train/.rest.jpg.part").unlink()
    assert content_of(folder) == content
    assert (await export(store, folder)).downloaded == 0


async def test_export_of_one_split_and_format(site: DatasetSite, store: DatasetStore, tmp_path: Path) -> None:
    await fill(site)
    await site.create(store)
    await export(store, tmp_path / "out", splits=["val"], formats=["yolo"])
    found = content_of(tmp_path / "out")
    kinds = {path.rpartition("/")[0] for path in found}
    assert kinds == {"", "images/val", "labels/val"}
    for given in ({"splits": ["dev"]}, {"formats": ["voc"]}):
        with pytest.raises(DatasetOptionError, match="this data set has"):
            await export(store, tmp_path / "other", **given)


async def test_export_into_a_used_folder_is_refused(site: DatasetSite, store: DatasetStore, tmp_path: Path) -> None:
    await fill(site)
    await site.create(store)
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine.txt").write_text("mine")
    with pytest.raises(DatasetExistsError, match="no export of a data set"):
        await export(store, tmp_path / "used")
    assert content_of(tmp_path / "used") == {"mine.txt": b"mine"}
    await export(store, tmp_path / "out")
    await store.delete("birds")
    await site.create(store, where="device = cam-1")
    with pytest.raises(DatasetExistsError, match="another version of birds"):
        await export(store, tmp_path / "out")
    with locked_folder(tmp_path / "used", exclusive=True), pytest.raises(DatasetBusyError):
        await export(store, tmp_path / "used")


async def test_damaged_files_are_found(site: DatasetSite, tmp_path: Path) -> None:
    await fill(site)
    store = FolderDatasets(tmp_path / "datasets")
    await site.create(store)
    folder = tmp_path / "datasets" / "birds"
    picture = next(folder.glob("images/train/*"))
    picture.write_bytes(b"x" * picture.stat().st_size)
    with pytest.raises(DatasetDamagedError, match="not those that were written"):
        await export(store, tmp_path / "one")
    assert not (tmp_path / "one" / "dataset.json").exists()
    picture.unlink()
    with pytest.raises(DatasetDamagedError, match="is missing"):
        await export(store, tmp_path / "two")
    listed = (folder / "files.jsonl").read_bytes()
    (folder / "files.jsonl").write_bytes(listed.replace(b"data.yaml", b"../a.yaml"))
    with pytest.raises(DatasetDamagedError, match="its hash is not the one"):
        await export(store, tmp_path / "three")
    manifest = (folder / "dataset.json").read_bytes()
    (folder / "dataset.json").write_bytes(manifest.replace(b'"pictures": 3', b'"pictures": 4'))
    with pytest.raises(DatasetDamagedError, match="its id is not that of its content"):
        await export(store, tmp_path / "four")


async def test_lakefs_errors_are_tried_again(site: DatasetSite, lakefs_server: LakeFsServer, tmp_path: Path) -> None:
    await fill(site)
    store = lakefs_store(lakefs_server)
    lakefs_server.fail = [
        ("POST /api/v1/repositories/bird-detection/branches/unfinished", 503, "slow down"),
        ("/commits", 500, "predicate failed"),
        ("POST /api/v1/repositories/bird-detection/branches", 429, "too many"),
        ("POST /api/v1/repositories/bird-detection/tags", 500, "branch is currently locked"),
    ]
    await site.create(store)
    assert lakefs_server.fail == []
    repository = lakefs_server.repositories["bird-detection"]
    assert repository.tags["dataset-birds"] == repository.branches["dataset-birds"].head
    assert sorted(repository.branches) == ["dataset-birds", "main", "standgale-empty"]
    assert repository.messages == [], "main is as it was"
    lakefs_server.fail = [("/objects", 503, "slow down")] * 3
    assert (await export(store, tmp_path / "out")).files == 11
    await store.delete("birds")
    assert (repository.tags, sorted(repository.branches)) == ({}, ["main", "standgale-empty"])
    await store.close()


async def test_taken_tag_is_refused_before_anything_is_written(site: DatasetSite, lakefs_server: LakeFsServer) -> None:
    await fill(site)
    store = lakefs_store(lakefs_server)
    repository = lakefs_server.repositories["bird-detection"]
    repository.tags["dataset-birds"] = repository.head.id
    with pytest.raises(DatasetExistsError, match="a tag dataset-birds or a branch dataset-birds"):
        await site.create(store)
    assert sorted(repository.branches) == ["main"]
    await store.close()


async def test_foreign_folder_of_that_name_is_refused(site: DatasetSite, tmp_path: Path) -> None:
    await fill(site)
    (tmp_path / "datasets" / "birds").mkdir(parents=True)
    store = FolderDatasets(tmp_path / "datasets")
    with pytest.raises(DatasetExistsError, match="is there already, and not what this makes"):
        await site.create(store)
    assert await store.names() == []
    lock = locked_folder(tmp_path / "datasets" / ".unfinished" / "birds", exclusive=True)
    with lock, pytest.raises(DatasetBusyError, match="another process makes or deletes the data set birds"):
        await store.delete("birds")


async def test_diff_names_pictures_splits_and_boxes(site: DatasetSite, store: DatasetStore) -> None:
    for day in range(4):
        await site.add("cam-1", [("bird", 0.9), ("bird", 0.8)], day=day)
    await site.create(store, "a", shares=parse_shares("100"))
    await site.add("cam-2", [("boat", 0.9)], day=5)
    frames = [frame async for frame in _frames(site)]
    await site.correct(frames[0], 0, "incorrect_label", label="kite")
    await site.correct(frames[1], 1, "false_positive")
    await site.correct(frames[2], 0, "incorrect_bbox", bbox=[0.0, 0.3, 0.1, 0.8])
    until = (DAY + timedelta(days=3)).date()
    await site.create(store, "b", shares=parse_shares("100"), where=f"time < {until} or device = cam-2")
    first, second = await find_dataset(store, "a"), await find_dataset(store, "b")
    found = await diff_datasets(first, second, iou=0.5)
    assert (found.both, found.only_first, found.only_second, found.moved, found.changed) == (3, 1, 1, 0, 3)
    assert (found.same_boxes, found.shifted_boxes, found.relabelled_boxes) == (3, 1, 1)
    assert (found.removed, found.added) == ({"bird": 1}, {})
    assert (found.new_classes, found.lost_classes) == (["boat", "kite"], [])
    assert not found.is_same
    assert (await diff_datasets(first, first, iou=0.5)).is_same
    await site.create(store, "c", shares=parse_shares("50/50"), where="device = cam-1")
    assert (await diff_datasets(second, await find_dataset(store, "c"), iou=0.5)).moved > 0


async def _frames(site: DatasetSite):
    async with site.database.acquire() as connection:
        for row in await connection.fetch("SELECT id FROM images ORDER BY captured_at"):
            yield row["id"]


async def test_hanging_lakefs_ends_in_an_error_and_the_command_goes_on(
    site: DatasetSite, lakefs_server: LakeFsServer
) -> None:
    await fill(site)
    store = lakefs_store(lakefs_server, timeout_s=0.3)
    lakefs_server.hang_s = 2.0
    with pytest.raises(LakeFsUnavailableError, match="no response within"):
        await site.create(store)
    lakefs_server.hang_s = 0.0
    lakefs_server.lose_responses = 3
    assert (await site.create(store)).is_new
    assert list(await store.names()) == ["birds"]
    await store.close()


async def test_full_disk_leaves_no_data_set(site: DatasetSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await fill(site)
    store, written = FolderDatasets(tmp_path / "datasets"), 0

    def write(path: Path, data: bytes) -> None:
        nonlocal written
        written += 1
        if written == 3:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write_synced(path, data)

    monkeypatch.setattr("console.datasets.stores.folder.write_synced", write)
    with pytest.raises(OSError, match="No space left"):
        await site.create(store)
    assert (await store.names(), await store.unfinished()) == ([], [])
    assert [path for path in (tmp_path / "datasets").rglob("*") if path.is_file()] == []
    assert (await site.create(store)).is_new

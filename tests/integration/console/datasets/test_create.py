"""Data sets: what is in them, for both stores, with a real database."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from xml.etree import ElementTree

import pytest

from console.datasets.create import DatasetRequest, preview_dataset
from console.datasets.errors import (
    DatasetEmptyError,
    DatasetExistsError,
    DatasetNotFoundError,
    DatasetOptionError,
    DatasetPictureError,
)
from console.datasets.export import ExportRequest, export_dataset, find_dataset
from console.datasets.query.reader import read_pictures
from console.datasets.query.statement import Statement
from console.datasets.splits import parse_shares
from console.datasets.stores.folder import FolderDatasets
from console.datasets.stores.port import DatasetStore
from tests.harnesses.datasets import DAY, DatasetSite, content_of

pytestmark = pytest.mark.integration


async def exported(store: DatasetStore, folder: Path, name: str = "birds", **given: object) -> dict[str, bytes]:
    request = ExportRequest(name, folder, **given)  # type: ignore[arg-type]
    await export_dataset(store, request, lambda done, total: None)
    return content_of(folder)


async def fill(site: DatasetSite) -> None:
    for day in range(4):
        for device in ("cam-1", "cam-2"):
            await site.add(device, [("bird", 0.9), ("small boat", 0.4)], day=day)
            await site.add(device, [], day=day)


async def test_create_writes_pictures_manifest_and_labels_of_all_formats(
    site: DatasetSite, store: DatasetStore, tmp_path: Path
) -> None:
    await fill(site)
    created = await site.create(store, "v1.0", formats=("coco", "yolo", "voc"))
    manifest = created.manifest
    assert created.is_new
    assert (manifest.pictures, manifest.boxes, manifest.classes) == (16, 16, ("bird", "small boat"))
    assert set(manifest.splits) == {"train", "val", "test"}
    assert manifest.models == {"finder@1": 16}
    assert await store.names() == ["v1.0"]
    files = await exported(store, tmp_path / "out", "v1.0")
    assert len([path for path in files if path.startswith("images/")]) == 16
    coco = json.loads(files["annotations/instances_train.json"])
    assert coco["categories"] == [{"id": 0, "name": "bird"}, {"id": 1, "name": "small boat"}]
    boxes = {each["image_id"]: each["bbox"] for each in coco["annotations"] if each["category_id"] == 0}
    assert next(iter(boxes.values())) == [0.0, 12.0, 6.4, 24.0]
    outlines = [each["segmentation"] for each in coco["annotations"] if each["category_id"] == 0]
    assert outlines[0] == [[0.0, 12.0, 6.4, 12.0, 6.4, 36.0, 0.0, 36.0]]
    image = next(each for each in coco["images"] if each["id"] in boxes)
    stem = image["file_name"].removesuffix(".jpg")
    assert files[f"labels/train/{stem}.txt"] == b"0 0.05 0.5 0.1 0.5\n1 0.15 0.5 0.1 0.5\n"
    voc = ElementTree.fromstring(files[f"voc/train/{stem}.xml"])
    assert [each.findtext("name") for each in voc.iter("object")] == ["bird", "small boat"]
    assert stem.encode() in files["voc/train.txt"].splitlines()
    assert b"" in [content for path, content in files.items() if path.startswith("labels/")], "pictures without boxes"
    assert files["data.yaml"].startswith(b"train: images/train\nval: images/val\ntest: images/test\nnames:\n  0: ")


async def test_same_input_makes_the_same_data_set(site: DatasetSite, store: DatasetStore, tmp_path: Path) -> None:
    await fill(site)
    first = await site.create(store)
    again = await site.create(store)
    assert (first.is_new, again.is_new) == (True, False)
    assert first.manifest == again.manifest
    other = FolderDatasets(tmp_path / "others")
    elsewhere = await site.create(other)
    assert elsewhere.manifest == first.manifest
    assert await exported(store, tmp_path / "one") == await exported(other, tmp_path / "two")
    with pytest.raises(DatasetExistsError, match="made from other pictures"):
        await site.create(store, where="label = bird")
    assert await store.delete("birds")
    assert not await store.delete("birds")
    assert await store.names() == []
    assert (await site.create(store)).manifest == first.manifest


async def test_only_data_sets_are_deleted_from_the_folder(tmp_path: Path) -> None:
    store, notes = FolderDatasets(tmp_path / "sets"), tmp_path / "sets" / "mine" / "notes.txt"
    notes.parent.mkdir(parents=True)
    notes.write_text("not to be lost")
    (tmp_path / "sets" / "link").symlink_to(notes.parent)
    for name in ("mine", "link", "nothing"):
        assert not await store.delete(name)
    assert notes.read_text() == "not to be lost"
    assert (tmp_path / "sets" / "link").is_symlink()
    assert await store.names() == []


async def test_no_scene_and_no_content_is_in_two_splits(site: DatasetSite, store: DatasetStore, tmp_path: Path) -> None:
    await fill(site)
    copy = await site.add("cam-3", day=9, like=1)
    manifest = (await site.create(store)).manifest
    assert manifest.duplicates == 1
    files = await exported(store, tmp_path / "out")
    lines = [json.loads(line) for line in files["pictures.jsonl"].splitlines()]
    assert str(copy) not in {line["frame_id"] for line in lines}
    splits: dict[tuple[str, str], set[str]] = {}
    for line in lines:
        splits.setdefault((line["device"], line["captured_at"][:10]), set()).add(line["split"])
        assert line["file"].startswith(f"images/{line['split']}/")
    assert all(len(found) == 1 for found in splits.values())


@pytest.mark.parametrize(
    ("where", "pictures", "boxes"),
    [
        ("device = cam-1", 8, 8),
        ("label = bird", 8, 8),
        ("confidence >= 0.5 or boxes = 0", 16, 8),
        ("boxes between 2 and 5 and confidence > 0.3", 8, 16),
        ("label = bird and not confidence < 0.9", 8, 8),
        (f"time >= {(DAY + timedelta(days=1)).date()} and time < 2026-05-03 and label in ('small boat', x)", 2, 2),
    ],
)
async def test_query_selects_pictures_and_boxes(
    site: DatasetSite, tmp_path: Path, where: str, pictures: int, boxes: int
) -> None:
    await fill(site)
    request = DatasetRequest("birds", where, parse_shares("80/10/10"))
    parts = site.parts(FolderDatasets(tmp_path / "datasets"))
    found = await preview_dataset(parts, request, lambda what, done, total: None)
    assert (found.pictures, found.boxes, sum(found.splits.values())) == (pictures, boxes, pictures)
    assert not (tmp_path / "datasets").exists()


@pytest.mark.parametrize(
    ("where", "jobs", "pictures"),
    [("width > 0", False, 1), ("width > 0", True, 2), ("job = job_1", False, 1), ("not job = job_2", False, 1)],
)
async def test_pictures_of_jobs_are_left_out_unless_asked_for(
    site: DatasetSite, tmp_path: Path, where: str, jobs: bool, pictures: int
) -> None:
    await site.add("cam-1")
    frame = await site.add("cam-1")
    await site.give_to_job(frame, "job_1")
    manifest = (await site.create(FolderDatasets(tmp_path / "datasets"), where=where, jobs=jobs)).manifest
    assert manifest.pictures == pictures


async def test_corrections_win_over_detections(site: DatasetSite, tmp_path: Path) -> None:
    # C-S1-054
    store = FolderDatasets(tmp_path / "datasets")
    frame = await site.add("cam-1", [("bird", 0.9), ("bird", 0.8), ("bird", 0.7), ("bird", 0.6)])
    await site.correct(frame, 0, "false_positive")
    await site.correct(frame, 1, "incorrect_bbox", bbox=[0.5, 0.5, 0.6, 0.75])
    await site.correct(frame, 2, "incorrect_bbox", bbox=[0, 0, 1, 1])
    await site.correct(frame, 2, "incorrect_label", label="kite", at=1)
    await site.correct(frame, 3, "confirmed")
    await site.correct(frame, None, "missed_detection", bbox={"x1": 0, "y1": 0, "x2": 1, "y2": 0.5}, label="boat")
    await site.correct(frame, None, "missed_detection", label="no box")
    manifest = (await site.create(store)).manifest
    assert (manifest.boxes, manifest.corrected, manifest.classes) == (4, 3, ("bird", "boat", "kite"))
    line = json.loads(content_of(tmp_path / "datasets" / "birds")["pictures.jsonl"])
    found = {(box["label"], tuple(box["box"]), box["confidence"], box.get("by_person")) for box in line["boxes"]}
    assert found == {
        ("bird", (0.5, 0.5, 0.6, 0.75), 1.0, True),
        ("kite", (0.2, 0.25, 0.3, 0.75), 1.0, True),
        ("bird", (0.3, 0.25, 0.4, 0.75), 0.6, None),
        ("boat", (0.0, 0.0, 1.0, 0.5), 1.0, True),
    }
    only = (await site.create(store, "corrected", where="corrected = true and label != boat")).manifest
    assert only.boxes == 2


@pytest.mark.parametrize(
    "bbox",
    [
        "text",
        7,
        {},
        [],
        [0, 0, 1],
        [0.5, 0, 0.5, 1],
        [0.5, 0, 0.5000001, 1],
        [0, 0, None, 1],
        [0, 0, "1", 1],
        [0, 0, 1, 2],
        {"x": 1},
        [0, 0, True, 1],
    ],
)
async def test_corrections_with_a_box_that_cannot_be_used_are_left_out_and_counted(
    site: DatasetSite, tmp_path: Path, bbox: object
) -> None:
    frame = await site.add("cam-1", [("bird", 0.9), ("bird", 0.8), ("bird", 0.7)])
    await site.correct(frame, 0, "incorrect_bbox", bbox=bbox)
    await site.correct(frame, 1, "incorrect_bbox", bbox=bbox, label="kite")
    await site.correct(frame, 2, "false_positive", bbox=bbox)
    await site.correct(frame, None, "missed_detection", bbox=bbox, label="boat")
    created = await site.create(FolderDatasets(tmp_path / "datasets"))
    assert (created.unusable, created.manifest.boxes, created.manifest.corrected) == (3, 2, 1)
    line = json.loads(content_of(tmp_path / "datasets" / "birds")["pictures.jsonl"])
    assert {(box["label"], tuple(box["box"]), box["confidence"]) for box in line["boxes"]} == {
        ("bird", (0.0, 0.25, 0.1, 0.75), 0.9),
        ("kite", (0.1, 0.25, 0.2, 0.75), 1.0),
    }


async def test_newest_session_counts_unless_a_model_is_named(site: DatasetSite, tmp_path: Path) -> None:
    store = FolderDatasets(tmp_path / "datasets")
    frame = await site.add("cam-1", [("bird", 0.9), ("bird", 0.8)])
    async with site.database.acquire() as connection:
        await site.detect(connection, frame, [("gull", 0.5)], model="other", version="2", at=DAY + timedelta(days=1))
    assert (await site.create(store, "newest")).manifest.classes == ("gull",)
    older = (await site.create(store, "older", model="finder")).manifest
    assert (older.classes, older.boxes, older.models) == (("bird",), 2, {"finder@1": 1})
    with pytest.raises(DatasetEmptyError):
        await site.create(store, "none", model="finder", version="9")
    await site.correct(frame, 0, "confirmed")
    reviewed = (await site.create(store, "reviewed")).manifest
    assert reviewed.classes == ("bird",), "a session that a person has looked at comes before newer ones"


async def test_query_beyond_its_time_limit_names_the_setting(site: DatasetSite) -> None:
    slow = Statement("SELECT pg_sleep(5)")
    with pytest.raises(DatasetOptionError, match="query_timeout_s"):
        [picture async for picture in read_pictures(site.database, slow, timeout_s=0.2)]


async def test_like_keeps_the_splits_of_another_data_set(
    site: DatasetSite, store: DatasetStore, tmp_path: Path
) -> None:
    for day in range(6):
        await site.add("cam-1", day=day)
    await site.create(store, "v1.0", shares=parse_shares("50/50"))
    for day in range(6, 12):
        await site.add("cam-1", day=day)
    await site.create(store, "v2.0", like="v1.0", shares=parse_shares("80/20"))
    first = await exported(store, tmp_path / "one", "v1.0")
    second = await exported(store, tmp_path / "two", "v2.0")
    pictures = {path for path in first if path.startswith("images/")}
    assert len(pictures) == 6
    assert pictures <= second.keys()
    with pytest.raises(DatasetOptionError, match="--like: there is no data set v9"):
        await site.create(store, "v3.0", like="v9")


async def test_missing_pictures_are_refused_or_left_out(site: DatasetSite, store: DatasetStore) -> None:
    await fill(site)
    lost = [stored.uri async for stored in site.frames.objects()][:2]
    for uri in lost:
        await site.frames.delete(uri)
    with pytest.raises(DatasetPictureError, match="--skip-missing leaves them out"):
        await site.create(store)
    assert await store.names() == []
    manifest = (await site.create(store, skip_missing=True)).manifest
    assert (manifest.pictures, manifest.missing) == (14, 2)
    found = await find_dataset(store, "birds")
    assert found.manifest.pictures == 14


async def test_too_many_pictures_and_no_picture_are_refused(site: DatasetSite, tmp_path: Path) -> None:
    await fill(site)
    store = FolderDatasets(tmp_path / "datasets")
    for limits, name in (({"max_pictures": 15}, "max_pictures"), ({"max_boxes": 15}, "max_boxes")):
        with pytest.raises(DatasetOptionError, match=name):
            request = DatasetRequest("birds", "width > 0", parse_shares("100"))
            await preview_dataset(site.parts(store, **limits), request, lambda what, done, total: None)
    with pytest.raises(DatasetEmptyError, match="selects no picture"):
        await site.create(store, where="device = nowhere")
    with pytest.raises(DatasetNotFoundError):
        await find_dataset(store, "birds")

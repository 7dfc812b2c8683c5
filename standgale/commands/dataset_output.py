"""Writes what the verbs of `standgale dataset` print: previews, data sets and differences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from infra.texts import counted
from standgale.commands.context import Context, print_json, table

if TYPE_CHECKING:
    from console.datasets.create import DatasetRequest, Preview
    from console.datasets.diff import DatasetDiff
    from console.datasets.manifest import Manifest


def summary(manifest: Manifest) -> dict[str, object]:
    """Return the manifest for JSON."""
    from dataclasses import asdict

    return asdict(manifest)


def print_preview(here: Context, request: DatasetRequest, preview: Preview, *, as_json: bool) -> None:
    """Print what would be made."""
    if as_json:
        from dataclasses import asdict

        print_json({"name": request.name, "where": request.where, "dry_run": True, **asdict(preview)})
        return
    shown = table("split", "pictures")
    for split, pictures in preview.splits.items():
        shown.add_row(split, f"{pictures:,}")
    here.out.print(shown)
    here.out.print(
        f"{counted(preview.pictures, 'picture')} with {counted(preview.boxes, 'box', 'boxes')} of "
        f"{counted(len(preview.classes), 'class', 'classes')} would be in it; {preview.corrected} corrected by people, "
        f"{counted(preview.duplicates, 'duplicate')} left out",
        highlight=False,
        soft_wrap=True,
    )
    _print_empty(here, [split for split, pictures in preview.splits.items() if not pictures])
    print_unusable(here, preview.unusable)


def print_manifest(here: Context, manifest: Manifest) -> None:
    """Print what is in a data set."""
    shown = table("split", "pictures", "boxes", "devices and days")
    for split, count in manifest.splits.items():
        shown.add_row(split, f"{count.pictures:,}", f"{count.boxes:,}", f"{count.scenes:,}")
    here.out.print(shown)
    lines = [
        f"id: {manifest.id}",
        f"where: {manifest.where}",
        f"classes: {', '.join(manifest.classes) or 'none'}",
        f"label files: {', '.join(manifest.formats)}; "
        f"{counted(manifest.files, 'file')}, {manifest.size_bytes / 1e6:,.1f} MB",
        f"captured: {manifest.first_captured} to {manifest.last_captured}",
        f"models: {', '.join(f'{name} ({count})' for name, count in manifest.models.items()) or 'none'}",
        f"boxes corrected by people: {manifest.corrected}; left out: {counted(manifest.duplicates, 'duplicate')}, "
        f"{counted(manifest.missing, 'missing picture')}",
    ]
    for line in lines:
        here.out.print(line, highlight=False, markup=False, soft_wrap=True)
    wanted = manifest.options.get("shares", {})
    _print_empty(here, [split for split in wanted if split not in manifest.splits])
    if "yolo" in manifest.formats and "val" not in manifest.splits:
        here.notes.print(
            "data.yaml names other pictures as val, because programs that train need the key: their scores there say "
            "nothing about other scenes",
            highlight=False,
            soft_wrap=True,
        )


def print_unusable(here: Context, corrections: int) -> None:
    """Say how many corrections have a box that was left out, if any have."""
    if corrections:
        here.notes.print(
            f"{counted(corrections, 'correction')} in data_annotations with a box that cannot be used: these boxes are "
            "left out (docs/datasets.md: corrections)",
            highlight=False,
            soft_wrap=True,
        )


def _print_empty(here: Context, splits: list[str]) -> None:
    if splits:
        here.notes.print(
            f"{' and '.join(splits)} would need more devices or days: all pictures of a device on one day are in one "
            "split, or a scene would be in two",
            highlight=False,
            soft_wrap=True,
        )


def diff_json(found: DatasetDiff) -> dict[str, object]:
    """Return a comparison for JSON."""
    return {
        "first": {"name": found.first.name, "id": found.first.id},
        "second": {"name": found.second.name, "id": found.second.id},
        "is_same": found.is_same,
        "pictures": {
            "both": found.both,
            "only_first": found.only_first,
            "only_second": found.only_second,
            "moved": found.moved,
            "changed": found.changed,
            "uncompared": found.uncompared,
        },
        "boxes": {
            "same": found.same_boxes,
            "shifted": found.shifted_boxes,
            "relabelled": found.relabelled_boxes,
            "added": dict(sorted(found.added.items())),
            "removed": dict(sorted(found.removed.items())),
        },
        "classes": {"added": found.new_classes, "removed": found.lost_classes},
        "files": {
            "only_first": found.only_first_files,
            "only_second": found.only_second_files,
            "moved": found.moved_files,
            "changed": found.changed_files,
        },
    }


def diff_lines(found: DatasetDiff) -> Iterator[str]:
    """Yield the lines of a comparison for people."""
    one, other = found.first.name, found.second.name
    yield f"pictures: {found.both} in both, {found.only_first} only in {one}, {found.only_second} only in {other}"
    yield f"of those in both: {found.moved} in another split, {found.changed} with other boxes"
    yield (
        f"boxes of pictures in both: {found.same_boxes} the same, {found.shifted_boxes} shifted, "
        f"{found.relabelled_boxes} relabelled, {sum(found.added.values())} added, {sum(found.removed.values())} removed"
    )
    if found.uncompared:
        yield f"{counted(found.uncompared, 'picture')} with too many boxes over each other were not compared"
    for text, counts in (("added", found.added), ("removed", found.removed)):
        if counts:
            yield f"{text}: {', '.join(f'{label} {count}' for label, count in sorted(counts.items()))}"
    for text, labels in (("new classes", found.new_classes), ("classes no longer there", found.lost_classes)):
        if labels:
            yield f"{text}: {', '.join(labels)}"
    for text, files in (
        (f"only in {one}", found.only_first_files),
        (f"only in {other}", found.only_second_files),
        ("in another split", found.moved_files),
        ("with other boxes", found.changed_files),
    ):
        for file in files:
            yield f"{text}: {file}"

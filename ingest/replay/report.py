"""Writes what a replay did, and each item that it refused, to files beside its checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import orjson

from infra.written_files import write_whole
from ingest.replay.checkpoint import Checkpoint, Refusal
from ingest.replay.errors import CheckpointError
from ingest.replay.progress import Progress

_REFUSED = "refused.jsonl"
_RESULT = "result.json"
_FIRST = 20


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """Says what became of all items of the source."""

    name: str
    finished: bool
    accepted: int
    known: int
    refused: int
    refused_by_code: dict[str, int]
    passed_over: int | None
    """Files that are no pictures by their names; None where it is not known"""
    size_bytes: int
    """Of the pictures of accepted frames"""
    items_per_s: float
    """In this run"""
    refused_first: list[dict[str, str]]
    """Some of the refused items: name, code, reason"""
    notes: list[str]
    """What else is to be known: that retention may have deleted frames of the range"""
    refused_file: str | None
    """One line of JSON for each item that was refused; None where there is none, and after a dry run"""


def make_result(name: str, checkpoint: Checkpoint, progress: Progress) -> ReplayResult:
    """Return what the replay ``name`` did."""
    state = checkpoint.state
    return ReplayResult(
        name=name,
        finished=state.finished_at is not None,
        accepted=state.accepted,
        known=state.known,
        refused=state.refused,
        refused_by_code=dict(checkpoint.refused_by_code()),
        passed_over=None if progress.totals is None else progress.totals.passed_over,
        size_bytes=state.size_bytes,
        items_per_s=round(progress.per_s, 2),
        refused_first=[_fields(each) for each in islice(checkpoint.refusals(), _FIRST)],
        notes=progress.notes,
        refused_file=None,
    )


def write_report(checkpoint: Checkpoint, progress: Progress) -> ReplayResult:
    """Write the result and all refused items to files, and return it. Raises CheckpointError."""
    folder = checkpoint.folder
    result = make_result(folder.name, checkpoint, progress)
    path = folder / _REFUSED
    try:
        if result.refused_by_code:
            result = replace(result, refused_file=str(path))
            _write_lines(path, checkpoint)
        else:
            path.unlink(missing_ok=True)
        write_whole(folder / _RESULT, orjson.dumps(result, option=orjson.OPT_INDENT_2))
    except OSError as error:
        raise CheckpointError(
            f"the report in {folder} cannot be written: {error.strerror}; correct that, and run the same command again"
        ) from error
    return result


def _write_lines(path: Path, checkpoint: Checkpoint) -> None:
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("wb") as file:
        file.writelines(orjson.dumps(_fields(each)) + b"\n" for each in checkpoint.refusals())
    unfinished.replace(path)


def _fields(each: Refusal) -> dict[str, str]:
    return {"name": each.name, "code": each.code, "reason": each.reason}

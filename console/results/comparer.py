"""Compares two jobs picture by picture, one comparison at a time, within limits of size."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import orjson

from console.http.errors import InvalidConfigError
from console.results.compare import TooManyPairsError, by_content, compare
from console.results.formats import compared
from console.results.records import Found, ResultFile, ResultJob, ResultRecords
from infra.http_api.errors.api_errors import OverloadedError

_MOST_DETECTIONS = 400_000
"""Of both jobs, in the pictures that both have: a body of a hundred megabytes."""
_WAITING = 16
_COUNTED = ("both", "relabelled", "only_first", "only_second")


class JobComparer:
    """Compares one pair of jobs after the other."""

    def __init__(self, records: ResultRecords) -> None:
        self._records = records
        self._turn = asyncio.Semaphore(1)
        self._waiting = 0

    async def body(self, jobs: Sequence[ResultJob], files: Sequence[Sequence[ResultFile]], iou: float) -> bytes:
        """Return the body of the response (a ComparisonBody) about two jobs with their files.

        Raises InvalidConfigError for jobs with too many detections, OverloadedError, and the errors of the database.
        """
        first, second = (by_content([each.file.image.sha256 for each in some]) for some in files)
        shared = [digest for digest in first if digest in second]
        pairs = [(files[0][first[digest][0]], files[1][second[digest][0]]) for digest in shared]
        size = sum(one.count + other.count for one, other in pairs)
        if size > _MOST_DETECTIONS:
            raise InvalidConfigError.of(
                "other_id",
                f"Must be jobs with at most {_MOST_DETECTIONS:,} detections in the pictures of both; it is {size:,}",
            )
        entries, counts = await self._in_turn(pairs, iou)
        data = {
            "first_job_id": jobs[0].job_id,
            "second_job_id": jobs[1].job_id,
            "iou": iou,
            "files_compared": len(entries),
            "files_only_first": len(first) - len(shared),
            "files_only_second": len(second) - len(shared),
            **{name: counts[name] for name in _COUNTED},
        }
        head = orjson.dumps({"status": "success", "data": data})[:-2]
        return b"".join([head, b',"files":[', b",".join(entries), b"]}}"])

    async def _in_turn(
        self, pairs: Sequence[tuple[ResultFile, ResultFile]], iou: float
    ) -> tuple[list[bytes], Counter[str]]:
        if self._waiting >= _WAITING:
            raise OverloadedError(
                f"{_WAITING} comparisons wait already", details="Ask again after Retry-After seconds."
            )
        entries, counts = [], Counter[str]()
        self._waiting += 1
        try:
            async with self._turn:
                for one, other in pairs:
                    found = [await self._records.found(each) for each in (one, other)]
                    entry, count = await self._records.threads.run(_entry, one, other, found, iou)
                    entries.append(entry)
                    counts.update(count)
        finally:
            self._waiting -= 1
        return entries, counts


def _entry(
    one: ResultFile, other: ResultFile, found: Sequence[Sequence[Found]], iou: float
) -> tuple[bytes, dict[str, int]]:
    """Return the part of one picture in the body, and how many detections are in each of its lists."""
    try:
        outcome = compare(found[0], found[1], iou)
    except TooManyPairsError as error:
        raise InvalidConfigError.of("iou", f"Must be larger for {one.file.filename}: {error}") from error
    counts = {name: len(getattr(outcome, name)) for name in _COUNTED}
    return orjson.dumps(compared(one, other, outcome)), counts

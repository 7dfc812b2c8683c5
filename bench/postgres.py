"""Measures rows per second of the PostgreSQL sink, and of plain COPY into the same tables."""

from __future__ import annotations

import time
from itertools import count
from pathlib import Path

from bench.detections_events import detections_event
from bench.measure import take_turns
from bench.processes import home, measured
from bench.result import RATIO, Figure, Result
from schemas.events import DetectionsMade
from schemas.ids import device_uuid
from sinks.postgres.rows import Row, detection_rows, image_rows, session_rows
from sinks.postgres.sink import PostgresSink
from sinks.postgres.statements import TARGETS

_BATCH = 500
"""Events, as the sink takes them by default."""
_DETECTIONS = 20
_NOTE = (
    f"Batches of {_BATCH} events with {_DETECTIONS} detections each: images, sessions and detections. Plain COPY "
    "writes rows that were made beforehand into copies of the tables with the same indexes, one transaction per batch; "
    "the sink makes its rows from events, passes over ids that are there already, and keeps foreign keys."
)


def run(quick: bool) -> Result:
    """Measure both, in turns; every batch is new to its tables."""
    return measured(lambda folder: _run(folder, quick))


async def _run(folder: Path, quick: bool) -> Result:
    batches, rounds = (2, 2) if quick else (6, 4)
    numbers = count()
    async with home(folder) as place:
        sink = PostgresSink(place.database)
        await sink.open()
        async with place.database.acquire() as connection:
            for target in TARGETS:
                await connection.execute(f"CREATE TABLE plain_{target.table} (LIKE {target.table} INCLUDING ALL)")

        async def ours() -> float:
            loads = [_events(numbers) for _ in range(batches)]
            start = time.perf_counter()
            for events in loads:
                await sink.write(events)
            return batches * _rows_per_batch() / (time.perf_counter() - start)

        async def bare() -> float:
            loads = [_rows(_events(numbers)) for _ in range(batches)]
            start = time.perf_counter()
            for rows in loads:
                async with place.database.acquire() as connection, connection.transaction():
                    for target, own in zip(TARGETS, rows, strict=True):
                        await connection.copy_records_to_table(
                            f"plain_{target.table}", records=own, columns=target.columns
                        )
            return batches * _rows_per_batch() / (time.perf_counter() - start)

        found = await take_turns(ours, bare, rounds)
        await sink.close()
    return Result(
        "postgres",
        "PostgreSQL sink over plain COPY",
        (
            Figure("plain COPY", found.bare_rate, "rows/s"),
            Figure("sink", found.our_rate, "rows/s"),
            Figure("sink over plain COPY", found.ratio, RATIO),
        ),
        (_NOTE,),
    )


def _rows_per_batch() -> int:
    return _BATCH * (2 + _DETECTIONS)


def _events(numbers: count[int]) -> list[DetectionsMade]:
    return [detections_event(next(numbers), _DETECTIONS) for _ in range(_BATCH)]


def _rows(events: list[DetectionsMade]) -> tuple[list[Row], list[Row], list[Row]]:
    devices = {event.device_id: device_uuid(event.device_id) for event in events}
    return image_rows(events, devices), session_rows(events), list(detection_rows(events))

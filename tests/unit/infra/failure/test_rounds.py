"""Work in rounds: pauses without work, back-off after errors, what health shows, and the end."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from infra.errors import DatabaseUnavailableError
from infra.failure.rounds import Rounds, run_rounds
from infra.failure.settings import RetrySettings
from infra.process.health import Health

ROUNDS = Rounds("publishing", "events wait", idle_s=30.0)
RETRY = RetrySettings(first_delay_s=0.01, max_delay_s=0.02)


async def run(rounds: Rounds, outcomes: list[int | Exception]) -> tuple[list[str | None], list[str | None]]:
    """Run until ``outcomes`` are used up; what readiness and notes were before each round."""
    part, stop = Health().part("x"), asyncio.Event()
    reasons: list[str | None] = []
    notes: list[str | None] = []

    async def work() -> int:
        reasons.append(part.reason)
        notes.append(part.report().note)
        outcome = outcomes.pop(0)
        if not outcomes:
            stop.set()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    await asyncio.wait_for(run_rounds(rounds, work, stop, part, RETRY), 5.0)
    return reasons, notes


async def test_an_error_of_a_server_is_shown_until_a_round_succeeds() -> None:
    away = DatabaseUnavailableError("the database is away")
    reasons, _ = await run(ROUNDS, [1, away, away, 2, 0])
    assert reasons == ["starting", None, "the database is away", "the database is away", None]


async def test_work_that_no_client_waits_for_leaves_the_part_ready_with_a_note() -> None:
    away = DatabaseUnavailableError("the database is away")
    reasons, notes = await run(replace(ROUNDS, ready_in_spite=True), [1, away, 2, 0])
    assert reasons == [None] * 4
    assert notes == [None, None, "events wait (DATABASE_UNAVAILABLE)", None]


async def test_a_defect_ends_the_rounds() -> None:
    with pytest.raises(ZeroDivisionError):
        await run(ROUNDS, [1, ZeroDivisionError()])


async def test_without_work_there_is_a_pause_that_a_stop_ends() -> None:
    part, stop, rounds = Health().part("x"), asyncio.Event(), 0

    async def work() -> int:
        nonlocal rounds
        rounds += 1
        return 0

    running = asyncio.create_task(run_rounds(ROUNDS, work, stop, part, RETRY))
    await asyncio.sleep(0.1)
    assert rounds == 1
    stop.set()
    await asyncio.wait_for(running, 1.0)


async def test_a_round_that_hangs_does_not_keep_the_process_from_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.failure.rounds._LAST_ROUND_S", 0.05)
    stop = asyncio.Event()

    async def work() -> int:
        await asyncio.sleep(60)
        return 0

    running = asyncio.create_task(run_rounds(ROUNDS, work, stop, Health().part("x"), RETRY))
    await asyncio.sleep(0.05)
    stop.set()
    await asyncio.wait_for(running, 1.0)

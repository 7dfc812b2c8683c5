"""Uploads in progress are limited in number and bytes, in total and for each client."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest

from infra.http_api.errors.api_errors import OverloadedError
from infra.http_api.limits import slots as slots_module
from infra.http_api.limits.slots import UploadSlots


def most_of(slots: UploadSlots, client: str, stack: ExitStack, size_bytes: int = 0) -> int:
    """Take slots for one client until it gets no more, and return how many it got."""
    for number in range(1_000):
        try:
            stack.enter_context(slots.reserve(size_bytes, client))
        except OverloadedError:
            return number
    raise AssertionError("there is no limit")


def test_upload_slots_limit_number_and_bytes_and_are_released() -> None:
    slots = UploadSlots(2, 100, "a.setting")
    with slots.reserve(60, "a"):
        with pytest.raises(OverloadedError), slots.reserve(41, "b"):
            raise AssertionError("there was no room")
        with slots.reserve(40, "b"), pytest.raises(OverloadedError), slots.reserve(0, "c"):
            raise AssertionError("there was no slot")
    with pytest.raises(ValueError, match="inside"), slots.reserve(100, "a"):
        raise ValueError("inside")
    with slots.reserve(100, "a"):
        pass


def test_upload_slots_of_one_client_are_at_most_half() -> None:
    slots = UploadSlots(64, 10**9, "a.setting")
    with ExitStack() as stack:
        assert most_of(slots, "greedy", stack) == 32
        with pytest.raises(OverloadedError, match="this client has 32 uploads in progress"), slots.reserve(0, "greedy"):
            raise AssertionError("it had its share")
    with ExitStack() as stack:
        assert most_of(slots, "greedy", stack) == 32


@pytest.mark.parametrize("greedy", [1, 3, 10, 40])
async def test_a_client_without_uploads_takes_the_oldest_slot_of_the_greediest(greedy: int) -> None:
    slots = UploadSlots(16, 32_000_000, "a.setting")
    taken_away: list[int] = []

    async def slow_upload(number: int) -> None:
        try:
            with slots.reserve(2_000_000, f"greedy-{number % greedy}") as slot, slot.reading():
                await asyncio.sleep(60)
        except OverloadedError as error:
            if "made room" in str(error):
                taken_away.append(number)

    uploads = [asyncio.create_task(slow_upload(number)) for number in range(60)]
    await asyncio.sleep(0)
    for number in range(3):
        if greedy < 16:
            with slots.reserve(2_000_000, f"modest-{number}"):
                await asyncio.sleep(0.01)
        else:
            with pytest.raises(OverloadedError), slots.reserve(2_000_000, f"modest-{number}"):
                raise AssertionError("16 clients have one slot each")
    for upload in uploads:
        upload.cancel()
    await asyncio.gather(*uploads, return_exceptions=True)
    assert len(taken_away) <= 3
    with ExitStack() as stack:
        assert most_of(slots, "alone", stack) == 8


async def test_a_slot_whose_body_is_complete_is_not_taken_away() -> None:
    slots = UploadSlots(4, 1_000, "a.setting")
    with ExitStack() as stack:
        for client in ("a", "a", "b", "c"):
            stack.enter_context(slots.reserve(1, client))
        with pytest.raises(OverloadedError, match="as many uploads in progress"), slots.reserve(1, "d"):
            raise AssertionError("there was no slot")


def test_upload_bytes_of_one_client_are_at_most_half() -> None:
    slots = UploadSlots(64, 200_000_000, "a.setting")
    with ExitStack() as stack:
        assert most_of(slots, "greedy", stack, 20_000_000) == 5
        stack.enter_context(slots.reserve(20_000_000, "modest"))


async def test_the_slowest_upload_that_had_its_turn_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight clients with one upload each, of a byte now and then, had all places for as long as they wanted."""
    slots, ended = UploadSlots(8, 0, "a.setting", turn_s=30.0), dict[int, str]()
    now_s = 100.0
    monkeypatch.setattr(slots_module, "monotonic_s", lambda: now_s)

    async def upload(number: int) -> None:
        try:
            with slots.reserve(0, f"slow-{number}") as slot:
                slot.received_bytes = 1_000 * (number + 1 if number != 5 else 0)
                with slot.reading():
                    await asyncio.sleep(60)
        except OverloadedError as error:
            ended[number] = f"{error} {error.details}"

    uploads = [asyncio.create_task(upload(number)) for number in range(8)]
    await asyncio.sleep(0)
    now_s += 29.0
    with pytest.raises(OverloadedError, match="as many uploads"), slots.reserve(0, "other"):
        raise AssertionError("each has its turn")
    now_s += 1.0
    for place in (5, 0, 1):
        slots.take(0, f"other-{place}")
        await asyncio.sleep(0.01)
        assert list(ended)[-1] == place
        assert "the slowest one" in ended[place]
        assert "Continue it" in ended[place]
    for task in uploads:
        task.cancel()
    await asyncio.gather(*uploads, return_exceptions=True)
    assert len(ended) == 3

"""The status of a spool, and frames that are put back after they were refused."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from infra.errors import SettingsError
from infra.storage.durable_files import locked_folder
from ingest.edge.retry import retry_refused
from ingest.edge.settings import EdgeSettings
from ingest.edge.spool.counts import Counts
from ingest.edge.spool.refused import Refusal
from ingest.edge.spool.spool import Spool
from ingest.edge.status import RunningState, read_state, read_status, write_states
from tests.unit.ingest.edge.spool.test_spool import drain, frame, next_entry

SETTINGS = EdgeSettings(min_free_bytes=0)


async def refuse_first(spool: Spool) -> None:
    entry = next_entry(spool)
    found = await spool.open(entry)
    assert found is not None
    await spool.refuse(entry, found, Refusal(code="FILE_TOO_LARGE", reason="large"))


async def test_read_status_counts_frames_and_names_the_oldest(tmp_path: Path) -> None:
    spool = Spool(tmp_path, SETTINGS, Counts())
    for number in range(3):
        await spool.add(frame(number))
    await refuse_first(spool)
    with locked_folder(tmp_path, exclusive=True):
        status = read_status(tmp_path)
    assert (status.running, status.frames, status.refused, status.damaged) == (True, 2, 1, 0)
    assert status.oldest_captured_at == "2026-05-01T12:00:01.000000Z"
    assert status.oldest_since is not None
    assert status.size_bytes > 2_000
    assert not status.is_well
    spool.close()


def test_read_status_of_a_spool_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    status = read_status(tmp_path / "none")
    assert (status.running, status.frames, status.oldest_captured_at) == (False, 0, None)


async def test_write_states_writes_changes_and_the_last_one(tmp_path: Path) -> None:
    states = [RunningState(counts=Counts(sent=number)) for number in (1, 2)]
    stop = asyncio.Event()
    writing = asyncio.create_task(write_states(tmp_path, lambda: states[0], stop))
    async with asyncio.timeout(5):
        while not (tmp_path / "status.json").exists():  # noqa: ASYNC110 (a file)
            await asyncio.sleep(0.01)
    states.pop(0)
    stop.set()
    await writing
    assert read_state(tmp_path).counts.sent == 2


def test_state_with_a_name_that_is_no_text_can_be_written() -> None:
    state = RunningState(source_problem="caf\udce9.jpg: it is empty", link_problem="\udcff", last_error="\udcff")
    assert "caf" in state.model_dump_json()


@pytest.mark.parametrize("content", [b"", b"{", b'{"counts": 1}'])
def test_damaged_status_file_begins_counts_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "status.json").write_bytes(content)
    assert read_state(tmp_path) == RunningState()


async def test_retry_refused_puts_frames_back_as_they_were(tmp_path: Path) -> None:
    spool = Spool(tmp_path, SETTINGS, Counts())
    for number in range(2):
        await spool.add(frame(number))
    await refuse_first(spool)
    await refuse_first(spool)
    spool.close()
    assert await retry_refused(SETTINGS, tmp_path) == 2
    assert list((tmp_path / "refused").iterdir()) == []
    spool = Spool(tmp_path, SETTINGS, Counts())
    assert await drain(spool) == ["0.jpg", "1.jpg"]
    spool.close()


async def test_retry_refused_needs_an_existing_spool_that_no_client_has(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="does not exist"):
        await retry_refused(SETTINGS, tmp_path / "none")
    with locked_folder(tmp_path, exclusive=True), pytest.raises(SettingsError, match="stop it"):
        await retry_refused(SETTINGS, tmp_path)


async def test_retry_refused_into_a_full_spool_keeps_the_rest(tmp_path: Path) -> None:
    spool = Spool(tmp_path, SETTINGS, Counts())
    await spool.add(frame(0))
    await refuse_first(spool)
    spool.close()
    full = SETTINGS.model_copy(update={"min_free_bytes": 10**18, "when_full": "drop_newest"})
    with pytest.raises(SettingsError, match="is full after 0 frames"):
        await retry_refused(full, tmp_path)
    assert read_status(tmp_path).refused == 1

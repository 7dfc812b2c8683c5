"""Every frame is published once, whatever fails and whenever the replay ends (C-S2-124, row I8)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from infra.errors import BrokerUnavailableError, StoreUnavailableError
from ingest.replay.errors import CheckpointError, SourceUnavailableError
from standgale.replays import AlreadyDone
from tests.harnesses.replay_site import write_pictures
from tests.integration.ingest.replay.runs import (
    InterruptedReplayError,
    Runs,
    interrupted_after,
    patched_parts,
    prepared,
)

pytestmark = pytest.mark.integration

COUNT = 40


async def require_once(runs: Runs, count: int = COUNT) -> None:
    found = await runs.frames()
    assert set(Counter(event.frame_id for event in found).values()) == {1}
    assert len(found) == count
    assert [event.captured_at for event in found] == sorted(event.captured_at for event in found)


async def test_replay_again_changes_nothing_and_restart_keeps_ids(tmp_path: Path) -> None:
    runs = await prepared(tmp_path)
    pictures = tmp_path / "pictures"
    write_pictures(pictures, COUNT)
    first = await runs.whole(pictures)
    assert (first.finished, first.accepted, first.known, first.refused) == (True, COUNT, 0, 0)
    await require_once(runs)
    done = await runs.run(pictures)
    assert isinstance(done, AlreadyDone)
    assert done.accepted == COUNT
    write_pictures(pictures, 2, first=COUNT)
    again = await runs.whole(pictures, again=True)
    assert (again.accepted, again.known) == (2, COUNT)
    await require_once(runs, COUNT + 2)
    ids = {event.frame_id for event in await runs.frames()}
    restarted = await runs.whole(pictures, restart=True)
    assert restarted.accepted == COUNT + 2
    found = Counter(event.frame_id for event in await runs.frames())
    assert (set(found), set(found.values())) == (ids, {2})


@pytest.mark.parametrize("moment", ["before", "after", "written"])
async def test_replay_that_ends_at_any_moment_continues_exactly(tmp_path: Path, moment: str) -> None:
    runs = await prepared(tmp_path, replay={"batch_frames": 8})
    pictures = tmp_path / "pictures"
    write_pictures(pictures, COUNT)
    calls = 0

    def interrupt(parts: Any) -> None:
        publish, write = parts.acceptance.publish, parts.checkpoint.write

        async def publish_some(*arguments: Any) -> None:
            nonlocal calls
            calls += 1
            if moment == "before" and calls == 2:
                raise InterruptedReplayError
            await publish(*arguments)
            if moment == "after" and calls == 2:
                raise InterruptedReplayError

        def write_some(*arguments: Any) -> None:
            if moment == "written" and calls == 2 and not parts.checkpoint.state.pending:
                raise InterruptedReplayError
            write(*arguments)

        parts.acceptance.publish, parts.checkpoint.write = publish_some, write_some

    for _ in range(2):
        calls = 0
        with patched_parts(interrupt), pytest.raises(InterruptedReplayError):
            await runs.run(pictures)
    result = await runs.whole(pictures)
    assert (result.accepted, result.known) == (COUNT, 0)
    await require_once(runs)


async def test_replay_with_lost_acknowledgements_publishes_once(tmp_path: Path) -> None:
    runs = await prepared(tmp_path, replay={"batch_frames": 8})
    pictures = tmp_path / "pictures"
    write_pictures(pictures, COUNT)
    calls = 0

    def lose(parts: Any) -> None:
        publish = parts.acceptance.publish

        async def publish_unheard(events: Any, topic: str) -> None:
            nonlocal calls
            calls += 1
            # Every third succeeds unheard, every third fails, and some publish a part only.
            if calls % 3 == 1:
                await publish(events[: len(events) // 2 + calls % 2], topic)
                raise BrokerUnavailableError("no acknowledgement")
            if calls % 3 == 2:
                raise BrokerUnavailableError("away")
            await publish(events, topic)

        parts.acceptance.publish = publish_unheard

    with patched_parts(lose):
        assert (await runs.whole(pictures)).accepted == COUNT
    await require_once(runs)


async def test_replay_waits_for_source_and_store_that_are_away(tmp_path: Path) -> None:
    runs = await prepared(tmp_path)
    pictures = tmp_path / "pictures"
    write_pictures(pictures, COUNT)
    failed = Counter[str]()

    def fail(parts: Any) -> None:
        store, items = parts.acceptance.store, parts.source.items

        async def store_later(*arguments: Any) -> str:
            failed["store"] += 1
            if failed["store"] % 2:
                raise StoreUnavailableError("away")
            return await store(*arguments)

        async def items_later(after: str | None) -> Any:
            given = 0
            async for item in items(after):
                yield item
                given += 1
                if given == 15:
                    failed["source"] += 1
                    raise SourceUnavailableError("away")

        parts.acceptance.store, parts.source.items = store_later, items_later

    with patched_parts(fail):
        assert (await runs.whole(pictures)).accepted == COUNT
    assert failed["source"] == 2
    assert runs.progress.waits == {}
    await require_once(runs)


async def test_error_of_a_replay_is_raised_when_its_report_fails_too(tmp_path: Path) -> None:
    """As on a full disk, where the checkpoint's error says what to do."""
    runs = await prepared(tmp_path)
    write_pictures(tmp_path / "pictures", 2)
    (runs.site.data / "replays" / "x" / "refused.jsonl").mkdir(parents=True)
    with interrupted_after(1), pytest.raises(InterruptedReplayError):
        await runs.run(tmp_path / "pictures", name="x")
    with pytest.raises(CheckpointError, match=r"the report in .*; correct that, and run the same command again"):
        await runs.run(tmp_path / "pictures", name="x")


async def test_replay_of_the_same_picture_twice_publishes_one(tmp_path: Path) -> None:
    runs = await prepared(tmp_path)
    pictures = tmp_path / "pictures"
    for copy in ("a", "b"):
        write_pictures(pictures / copy, 5)
    (pictures / "c.jpg").write_bytes(b"no picture")
    result = await runs.whole(pictures)
    assert (result.accepted, result.known, result.refused) == (5, 5, 1)
    assert result.refused_file is not None
    assert Path(result.refused_file).read_text().count("INVALID_FORMAT") == 1
    await require_once(runs, 5)


async def test_dry_run_returns_the_same_counts_and_leaves_nothing(tmp_path: Path) -> None:
    runs = await prepared(tmp_path)
    pictures = tmp_path / "pictures"
    write_pictures(pictures, 5)
    (pictures / "c.jpg").write_bytes(b"no picture")
    dry = await runs.whole(pictures, dry=True)
    assert (dry.accepted, dry.known, dry.refused) == (5, 0, 1)
    assert dry.refused_first[0]["code"] == "INVALID_FORMAT"
    assert await runs.frames() == []
    assert not (runs.site.data / "replays").exists()
    assert not list((runs.site.data / "frames").rglob("*.jpg"))
    real = await runs.whole(pictures)
    assert (real.accepted, real.refused, real.size_bytes) == (dry.accepted, dry.refused, dry.size_bytes)
    dry = await runs.whole(pictures, dry=True)
    assert (dry.accepted, dry.known) == (0, 5)


async def test_replay_whose_topic_was_made_anew_ends_in_an_error(tmp_path: Path) -> None:
    runs = await prepared(tmp_path, replay={"batch_frames": 4, "in_progress": 4})
    write_pictures(tmp_path / "pictures", 8)
    await runs.whole(tmp_path / "pictures")
    for file in runs.site.data.glob("broker.sqlite*"):
        file.unlink()
    await runs.site.prepare()
    write_pictures(tmp_path / "pictures", 1, first=8)
    with pytest.raises(CheckpointError, match="emptied or made anew"):
        await runs.run(tmp_path / "pictures", again=True)
    assert (await runs.whole(tmp_path / "pictures", restart=True)).accepted == 9
    assert len(await runs.frames()) == 9

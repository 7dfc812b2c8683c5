"""Ends the archive's process after each of its steps, and checks that each frame is there once afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.errors import TransientError
from infra.lakefs import commits
from sinks.lakefs import folder_archive
from tests.harnesses.archive import ArchiveHarness, FolderHarness, LakeFsHarness

pytestmark = pytest.mark.integration

# More than the longest run has.
_STEPS = 80


class EndedError(BaseException):
    """The process ended; nothing of it goes on."""


async def _checked(archive: ArchiveHarness, written: list[Any]) -> None:
    """Write ``written`` as the next process does, which may read more at once; check that each is there once."""
    sink = archive.make_sink()
    await sink.open()
    await sink.write([*written, archive.event(99, device="drone-0")])
    await sink.close()
    assert len(await archive.stored()) == len(written) + 1
    reported = {image.frame_id for report in await archive.reported() for image in report.images}
    assert {event.frame_id for event in written} <= reported


async def test_end_after_each_request_leaves_each_frame_once(
    lakefs: LakeFsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commits, "_ATTEMPTS", 1)
    events = [lakefs.event(number, device=f"drone-{number % 2}") for number in range(5)]
    server = lakefs.server
    for step in range(_STEPS):
        for done in (False, True):
            server.end_at(step, done=done)
            sink = lakefs.make_sink()
            try:
                await sink.open()
                await sink.write(events)
            except TransientError:
                ended = True
            else:
                ended = False
            server.go_on()
            await sink.close()
            if not ended:
                assert step > 10
                return
            await _checked(lakefs, events)
            lakefs.start_again()
    raise AssertionError("it never ends")


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Give a function that ends the process at one of its changes of the disk."""
    left = [-1]

    def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            if left[0] == 0:
                raise EndedError
            left[0] -= 1
            return original(*arguments, **options)

        return step

    for name in ("write_synced", "_link_or_copy", "make_folder", "sync_folder"):
        monkeypatch.setattr(folder_archive, name, wrapped(getattr(folder_archive, name)))
    for name in ("replace", "unlink", "rename"):
        monkeypatch.setattr(Path, name, wrapped(getattr(Path, name)))

    def end_at(step: int) -> None:
        left[0] = step

    yield end_at


async def test_end_after_each_change_of_the_disk_leaves_each_frame_once(
    tmp_path: Path, steps: Callable[[int], None]
) -> None:
    for step in range(_STEPS):
        archive = FolderHarness(tmp_path / str(step))
        events = [archive.event(number, device=f"drone-{number % 2}") for number in range(3)]
        sink = archive.make_sink()
        await sink.open()
        steps(step)
        try:
            await sink.write(events)
        except EndedError:
            ended = True
        else:
            ended = False
        steps(-1)
        if not ended:
            assert step > 10
            await archive.close()
            return
        await _checked(archive, events)
        await archive.close()
    raise AssertionError("it never ends")


async def test_hard_links_take_no_space_and_stay_when_the_store_removes_a_frame(tmp_path: Path) -> None:
    archive = FolderHarness(tmp_path / "site")
    event = archive.event(0)
    sink = archive.make_sink()
    await sink.open()
    await sink.write([event])
    await archive.store.delete(event.image.uri)
    (entry,) = archive.listed()
    file = archive.root / "bird-detection" / "main" / entry["path"]
    assert file.stat().st_nlink == 1
    assert file.read_bytes() == b"drone-0 0"
    await sink.close()
    await archive.close()

"""Runs replays in the process of the test, on a real embedded broker and a real folder store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from ingest.replay.progress import Progress
from ingest.replay.report import ReplayResult
from schemas.events import FrameCaptured
from standgale import replays
from standgale.replays import AlreadyDone, ReplayRequest, run_replay
from standgale.settings import Settings
from tests.harnesses.replay_site import ReplaySite


@dataclass
class Runs:
    """Holds the data folder and the settings; each run is one `standgale replay`."""

    folder: Path
    settings: dict[str, dict[str, object]] = field(default_factory=dict)
    progress: Progress = field(default_factory=Progress)

    @property
    def site(self) -> ReplaySite:
        return ReplaySite(self.folder)

    async def run(self, address: Path | str | None, **request: object) -> ReplayResult | AlreadyDone:
        """Replay; without a detector, nothing waits for the backlog."""
        replay = {"max_backlog": 0, "first_delay_s": 0.01, "max_delay_s": 0.05, **self.settings.get("replay", {})}
        settings = Settings.model_validate({**self.settings, "data_dir": self.site.data, "replay": replay})
        self.progress = Progress()
        wanted = ReplayRequest(None if address is None else str(address), "drone-7")
        return await run_replay(settings, replace(wanted, **request), self.progress)  # type: ignore[arg-type]

    async def whole(self, address: Path | str | None, **request: object) -> ReplayResult:
        found = await self.run(address, **request)
        assert isinstance(found, ReplayResult)
        return found

    async def frames(self) -> list[FrameCaptured]:
        return await self.site.frames()


async def prepared(folder: Path, **settings: dict[str, object]) -> Runs:
    runs = Runs(folder, settings)
    await runs.site.prepare()
    return runs


class InterruptedReplayError(Exception):
    """Is what a test ends a replay with, as a crash does."""


def patched_parts(change: Callable[..., None]) -> object:
    """Let ``change`` see the parts of each replay before it begins."""
    plain = replays._parts

    async def parts(*arguments: object) -> object:
        made = await plain(*arguments)  # type: ignore[arg-type]
        change(made)
        return made

    return patch.object(replays, "_parts", parts)


def interrupted_after(publishes: int) -> object:
    """End a replay right after so many batches of it were published."""
    calls = 0

    def interrupt(parts: Any) -> None:
        publish = parts.acceptance.publish

        async def publish_some(*arguments: Any) -> None:
            nonlocal calls
            calls += 1
            await publish(*arguments)
            if calls == publishes:
                raise InterruptedReplayError

        parts.acceptance.publish = publish_some

    return patched_parts(interrupt)


Publish = Callable[..., Awaitable[None]]

"""Brings the pictures of a folder to the spool, each once it is complete, and releases them afterwards."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, replace
from heapq import nsmallest
from math import inf
from pathlib import Path

from infra.process.monotonic import monotonic_s
from infra.telemetry.sampled_log import SampledLog
from infra.texts import counted, printable
from ingest.edge.folder.inotify import FolderEvents
from ingest.edge.folder.listing import FileState, Listing, is_wanted, list_pictures
from ingest.edge.folder.reading import Later, Loaded, load_file
from ingest.edge.port import Spooling, SpoolUnavailableError
from ingest.edge.settings import EdgeSettings
from ingest.edge.spool.history import History

logger = logging.getLogger(__name__)
_sampled = SampledLog(logger)

_CUT_OFF_S = 30.0
"""How long a picture that is cut off must be unchanged before it is taken as it is."""
_MOST_AT_ONCE = 10_000
# So a slow disk or a large folder is listed for a twentieth of the time at most.
_PAUSE_PER_LISTING = 20.0
_MOST_SHOWN = 3
# Beyond it the history on the disk is asked.
_MOST_KNOWN = 100_000


@dataclass(slots=True)
class _Candidate:
    """Is a file that is not taken yet."""

    state: FileState
    since_s: float
    """When it was first seen as it is."""
    closed: bool = False
    """Its writer closed it, or it was renamed into the folder."""
    reason: str | None = None
    """Why it was not taken at the last attempt."""
    next_try_s: float = 0.0
    """When another attempt may help although the file is unchanged."""


class FolderSource:
    """Watches one folder with the folders in it."""

    name = "folder"

    def __init__(self, folder: Path, settings: EdgeSettings, history: History) -> None:
        self._root = folder
        self._settings = settings
        self._history = history
        self._candidates: dict[Path, _Candidate] = {}
        self._taken: dict[Path, FileState] = {}
        self._listed_at_s: float | None = None
        self._pause_s = settings.scan_s
        self._unreadable: str | None = None
        """Why the folder, or a folder in it, cannot be listed"""
        self._unreadable_root = False
        self._spool_problem: str | None = None
        self._waits_for_space = False

    @property
    def problem(self) -> str | None:
        """What keeps it from bringing frames now, for the status; None when nothing does."""
        left = [(path, each.reason) for path, each in self._candidates.items() if each.reason]
        parts = list(filter(None, (self._unreadable, self._spool_problem)))
        if self._waits_for_space:
            parts.append(f"the spool has no room for {counted(len(self._candidates), 'file')} in the folder")
        elif left:
            shown = "; ".join(f"{path.name}: {reason}" for path, reason in left[:_MOST_SHOWN])
            more = " …" if len(left) > _MOST_SHOWN else ""
            parts.append(f"{counted(len(left), 'file')} not taken: {shown}{more}")
        return printable("; ".join(parts)) or None

    async def run(self, spool: Spooling, stop: asyncio.Event) -> None:
        """Bring frames to ``spool`` until ``stop`` is set, or by edge.until to their end."""
        events = self._open_events()
        stopped = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set() and not self._is_finished():
                must_list = self._collect(events)
                if must_list or self._listing_is_due():
                    await self._list(events)
                await self._take_ready(spool, stop)
                changed = [asyncio.create_task(events.changed.wait())] if events else []
                await asyncio.wait({stopped, *changed}, timeout=self._wait_s(), return_when=asyncio.FIRST_COMPLETED)
                for each in changed:
                    each.cancel()
        finally:
            stopped.cancel()
            if events is not None:
                events.close()

    def _is_finished(self) -> bool:
        """Return whether nothing is left that may still be taken; what is left has its reason."""
        if self._settings.until == "stopped" or self._listed_at_s is None or self._unreadable_root:
            return False
        patient_s = monotonic_s() - _CUT_OFF_S - self._settings.scan_s
        return all(
            each.reason is not None and (each.next_try_s == inf or each.since_s < patient_s)
            for each in self._candidates.values()
        )

    def _open_events(self) -> FolderEvents | None:
        if self._settings.watch == "poll":
            return None
        try:
            return FolderEvents()
        except OSError as error:
            self._report_no_events(error)
            return None

    def _report_no_events(self, error: OSError) -> None:
        logger.warning(
            "the system does not report the files of %s (%s); it is listed every %g s (edge.scan_s)",
            self._root,
            error.strerror,
            self._settings.scan_s,
        )

    def _collect(self, events: FolderEvents | None) -> bool:
        """Make candidates of the files that events reported; return whether the folder must be listed."""
        if events is None:
            return False
        paths, must_list = events.take()
        for path in paths:
            if is_wanted(path.name, self._settings.suffixes):
                self._consider(path, closed=True)
            elif path.suffix.lower() == ".json":
                self._consider_picture_of(path)
        return must_list

    def _consider_picture_of(self, side_file: Path) -> None:
        """Try the picture beside ``side_file`` again."""
        names = [side_file.stem, *(side_file.stem + end for s in self._settings.suffixes for end in (s, s.upper()))]
        for name in names:
            candidate = self._candidates.get(side_file.with_name(name))
            if candidate is not None:
                candidate.next_try_s = 0.0

    def _consider(self, path: Path, *, closed: bool, state: FileState | None = None) -> None:
        if state is None:
            try:
                state = FileState.of(path.lstat())
            except OSError:
                return
            if not self._is_new(path, state):
                return
        former = self._candidates.get(path)
        if former is None or former.state != state:
            self._candidates[path] = _Candidate(state, monotonic_s(), closed)
        elif closed:
            former.closed, former.next_try_s = True, 0.0

    def _listing_is_due(self) -> bool:
        return self._listed_at_s is None or monotonic_s() - self._listed_at_s >= self._pause_s

    async def _list(self, events: FolderEvents | None) -> None:
        began_s = monotonic_s()
        try:
            found = await asyncio.to_thread(list_pictures, self._root, self._settings.suffixes, self._is_new)
        except OSError as error:
            self._note_unreadable(f"the folder {self._root} cannot be read: {error.strerror}")
            self._listed_at_s, self._unreadable_root = monotonic_s(), True
            return
        self._unreadable_root = False
        self._note_unreadable(found.unreadable)
        self._watch(events, found)
        self._listed_at_s = monotonic_s()
        self._pause_s = max(self._settings.scan_s, _PAUSE_PER_LISTING * (self._listed_at_s - began_s))
        for path, candidate in list(self._candidates.items()):
            if path not in found.pictures and candidate.since_s < began_s:
                del self._candidates[path]
        for path, state in found.pictures.items():
            # The listing has left out what was taken before.
            self._consider(path, closed=False, state=state)

    def _note_unreadable(self, problem: str | None) -> None:
        """Keep what cannot be listed for the status, and log it when it changes."""
        if problem != self._unreadable:
            if problem is None:
                logger.info("the folder %s can be read again", self._root)
            else:
                logger.error("%s; it is tried again (edge.folder)", problem)
        self._unreadable = problem

    def _watch(self, events: FolderEvents | None, found: Listing) -> None:
        if events is None:
            return
        try:
            events.watch(found.folders)
        except OSError as error:
            self._report_no_events(error)

    def _is_new(self, path: Path, state: FileState) -> bool:
        """Return whether the file was not taken as it is; also called from the thread that lists."""
        if self._taken.get(path) == state:
            return False
        if self._history.was_taken(str(path), state.size, state.mtime_ns):
            self._taken[path] = state
            return False
        return True

    def _is_ready(self, candidate: _Candidate) -> bool:
        return monotonic_s() >= self._ready_at_s(candidate)

    def _ready_at_s(self, candidate: _Candidate) -> float:
        settled_s = candidate.since_s if candidate.closed else candidate.since_s + self._settings.settle_s
        return max(settled_s, candidate.next_try_s)

    def _wait_s(self) -> float:
        """Return when the next listing is due, or the next candidate becomes ready."""
        now = monotonic_s()
        listing_s = (self._listed_at_s or now) + self._pause_s
        due_s = min((self._ready_at_s(each) for each in self._candidates.values()), default=listing_s)
        return max(min(due_s, listing_s) - now, 0.05)

    async def _take_ready(self, spool: Spooling, stop: asyncio.Event) -> None:
        """Bring all candidates that are ready, the oldest first, up to one that will be ready soon."""
        oldest = nsmallest(
            _MOST_AT_ONCE, ((each.state.mtime_ns, path.name, path) for path, each in self._candidates.items())
        )
        for _, _, path in oldest:
            if stop.is_set():
                return
            candidate = self._candidates[path]
            if not self._is_ready(candidate):
                if candidate.reason is None:
                    # Found at the start, and not settled yet: frames that an event reported must not overtake it.
                    return
                continue
            # What no event reported may have been here for days.
            is_old = not candidate.closed and time.time() - candidate.state.mtime_ns / 1e9 > self._settings.live_s
            settled = monotonic_s() - candidate.since_s >= _CUT_OFF_S
            loaded = await asyncio.to_thread(load_file, path, self._root, self._settings, is_settled=settled)
            if isinstance(loaded, Later):
                self._leave(path, candidate, loaded)
            elif not await self._bring(path, loaded, spool, stop, is_late=is_old):
                return

    def _leave(self, path: Path, candidate: _Candidate, later: Later) -> None:
        if later.state is None:
            del self._candidates[path]
            return
        if later.state != candidate.state:
            candidate.state, candidate.since_s, candidate.closed = later.state, monotonic_s(), False
            return
        candidate.next_try_s = monotonic_s() + self._settings.scan_s if later.may_change else inf
        if later.reason != candidate.reason:
            candidate.reason = later.reason
            _sampled.log(logging.WARNING, "files left in the folder", "%s is not taken: %s", path, later.reason)

    async def _bring(self, path: Path, loaded: Loaded, spool: Spooling, stop: asyncio.Event, *, is_late: bool) -> bool:
        """Bring a frame until the spool has it; return False when it has no room and the process stops."""
        frame = replace(loaded.frame, is_late=is_late)
        while True:
            try:
                taken = await spool.add(frame)
            except SpoolUnavailableError as error:
                if str(error) != self._spool_problem:
                    logger.error("%s; the files stay in the folder until it can", error)
                self._spool_problem = str(error)
            else:
                self._spool_problem = None
                if taken.is_final:
                    break
                if not self._waits_for_space:
                    logger.warning("the spool has no room; files stay in %s until it has", self._root)
                self._waits_for_space = True
            await spool.wait_for_space()
            if stop.is_set():
                return False
        self._waits_for_space = False
        del self._candidates[path]
        failure = await asyncio.to_thread(self._release, path, loaded)
        if failure is not None:
            _sampled.log(
                logging.ERROR,
                "files that cannot be deleted",
                "%s is in the spool, but cannot be deleted from the folder: %s (edge.release is delete)",
                path,
                failure.strerror,
            )
        return True

    def _release(self, path: Path, loaded: Loaded) -> OSError | None:
        """Delete the file, or note that it was taken; return why it cannot be deleted.

        One that was written again meanwhile is a new file, and stays.
        """
        failure: OSError | None = None
        if self._settings.release == "delete":
            try:
                if FileState.of(path.lstat()) == loaded.state:
                    path.unlink()
                    if loaded.side_file is not None:
                        loaded.side_file.unlink(missing_ok=True)
                return None
            except FileNotFoundError:
                return None
            except OSError as error:
                failure = error
        if len(self._taken) >= _MOST_KNOWN:
            self._taken.clear()
        self._taken[path] = loaded.state
        self._history.add_taken(str(path), loaded.state.size, loaded.state.mtime_ns)
        return failure

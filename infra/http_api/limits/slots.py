"""Limits how many uploads, and how many bytes of them, are in memory at the same time, in total and for each client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType

from infra.http_api.errors.api_errors import OverloadedError
from infra.process.monotonic import monotonic_s

_LATER = "Send the same again after Retry-After seconds."
_MOST = ("this client had the most uploads in progress", f"Send fewer at the same time, or faster. {_LATER}")
_CONTINUE = "Continue it after Retry-After seconds; what was received is kept."
AGAIN_FASTER = f"Send it over a faster connection, or in smaller parts. {_LATER}"
"""What to do after a slow upload of which nothing was kept."""


@dataclass(slots=True)
class _Client:
    """Holds the uploads of one client, the oldest first."""

    slots: dict[Slot, None] = field(default_factory=dict)
    bytes: int = 0


@dataclass(eq=False, slots=True)
class Slot:
    """Is the place of one upload; it can be taken away while the body is read, for a client that has none."""

    client: str
    size_bytes: int
    taken_away: bool = False
    received_bytes: int = 0
    """How much of the body was received, where :class:`UploadSlots` compares how fast uploads are"""
    since_s: float = 0.0
    on_taken_away: Callable[[], None] | None = None
    """Ends the upload; given while its body is received"""
    why: tuple[str, str] = _MOST
    """Why it was taken away, and what to do"""

    def reading(self) -> SlotReading:
        """Return a context manager to read the body in; it raises OverloadedError when the slot is taken away."""
        return SlotReading(self)

    @property
    def is_reading(self) -> bool:
        """Whether the body is being read, so that the slot can be taken away."""
        return self.on_taken_away is not None

    def take_away(self, why: tuple[str, str] = _MOST) -> None:
        """End the upload."""
        self.taken_away, self.why = True, why
        assert self.on_taken_away is not None
        self.on_taken_away()


class SlotReading:
    """Is a block of a task that reads a body; the task is cancelled when the slot is taken away."""

    __slots__ = ("_cancelling", "_slot", "_task")

    def __init__(self, slot: Slot) -> None:
        self._slot = slot

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task, self._cancelling = task, task.cancelling()
        self._slot.on_taken_away = self._cancel

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._slot.on_taken_away = None
        if self._slot.taken_away and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            why, details = self._slot.why
            raise OverloadedError(
                f"this upload made room for another client, because {why}", details=details
            ) from error

    def _cancel(self) -> None:
        self._task.cancel()


class UploadSlots:
    """Counts uploads in progress; a slot is reserved before a body is read, so that memory is limited.

    A client may have as many slots, and bytes, as are still free: alone at most half, and the less the more clients
    send. When all are used, a client without an upload takes the slot of the client with the most: of the upload whose
    body has been read for longest. So no client keeps another one out with many slow uploads.
    """

    def __init__(
        self, max_uploads: int, max_bytes: int, settings: str, turn_s: float | None = None, then: str = _CONTINUE
    ) -> None:
        """``settings``: the names of the settings that the limits come from, for error texts.

        ``turn_s``: for bodies that may last long. When no client has several uploads, a client without one takes the
        slot of the slowest that has lasted for so long; None: of none. ``then``: what the slowest is told to do.
        """
        self._settings = settings
        self._turn_s = turn_s
        self._slowest_why = ("it was the slowest one", then)
        self._free_uploads = max_uploads
        self._free_bytes = max_bytes
        self._clients: dict[str, _Client] = {}

    @contextmanager
    def reserve(self, size_bytes: int, client: str) -> Iterator[Slot]:
        """Reserve a slot for one upload of at most ``size_bytes``; raises OverloadedError when there is none."""
        slot = self.take(size_bytes, client)
        try:
            yield slot
        finally:
            self.give_back(slot)

    def take(self, size_bytes: int, client: str) -> Slot:
        """Return a slot, to be given back with :meth:`give_back`; raises OverloadedError when there is none."""
        own = self._clients.get(client)
        if own is not None:
            self._require_share(own, size_bytes)
        else:
            while not self._has_room(size_bytes) and (victim := self._victim()) is not None:
                self._release(victim[0])
                victim[0].take_away(victim[1])
        if not self._has_room(size_bytes):
            raise OverloadedError(
                "the service has as many uploads in progress as it accepts; nothing was read", details=_LATER
            )
        slot = Slot(client, size_bytes, since_s=monotonic_s())
        own = self._clients.setdefault(client, _Client())
        own.slots[slot] = None
        own.bytes += size_bytes
        self._free_uploads -= 1
        self._free_bytes -= size_bytes
        return slot

    def give_back(self, slot: Slot) -> None:
        """End the upload of ``slot``, once."""
        if not slot.taken_away:
            self._release(slot)

    def shrink(self, slot: Slot, size_bytes: int) -> None:
        """Give back what ``slot`` has beyond ``size_bytes``, which is what the upload turned out to need."""
        if not slot.taken_away and size_bytes < slot.size_bytes:
            self._clients[slot.client].bytes -= slot.size_bytes - size_bytes
            self._free_bytes += slot.size_bytes - size_bytes
            slot.size_bytes = size_bytes

    def share(self, client: str) -> tuple[int, int]:
        """Return how many uploads, and how many bytes of them, ``client`` may have in progress now."""
        own = self._clients.get(client) or _Client()
        return (len(own.slots) + self._free_uploads) // 2, (own.bytes + self._free_bytes) // 2

    def _has_room(self, size_bytes: int) -> bool:
        return self._free_uploads >= 1 and self._free_bytes >= size_bytes

    def _require_share(self, own: _Client, size_bytes: int) -> None:
        count = len(own.slots)
        if count >= self._free_uploads or own.bytes + size_bytes > self._free_bytes - size_bytes:
            raise OverloadedError(
                f"this client has {count} uploads in progress, which is its share of {self._settings} now; nothing was "
                "read",
                details=f"Let uploads in progress end before sending more. {_LATER}",
            )

    def _victim(self) -> tuple[Slot, tuple[str, str]] | None:
        """Return the upload whose slot another client gets, and why it is that one."""
        oldest = self._oldest_of_most()
        if oldest is not None:
            return oldest, _MOST
        slowest = self._slowest()
        return None if slowest is None else (slowest, self._slowest_why)

    def _oldest_of_most(self) -> Slot | None:
        """Return the oldest body that is being read of the client with the most uploads, if it has several."""
        most = max(self._clients.values(), key=lambda each: len(each.slots), default=None)
        if most is None or len(most.slots) < 2:
            return None
        return next((slot for slot in most.slots if slot.is_reading), None)

    def _slowest(self) -> Slot | None:
        """Return the slowest upload of those that are being read and have had their turn."""
        if self._turn_s is None:
            return None
        latest_s = monotonic_s() - self._turn_s
        slots = (slot for each in self._clients.values() for slot in each.slots)
        had_turn = [slot for slot in slots if slot.is_reading and slot.since_s <= latest_s]
        now_s = latest_s + self._turn_s
        return min(had_turn, key=lambda slot: slot.received_bytes / (now_s - slot.since_s), default=None)

    def _release(self, slot: Slot) -> None:
        own = self._clients[slot.client]
        del own.slots[slot]
        own.bytes -= slot.size_bytes
        if not own.slots:
            del self._clients[slot.client]
        self._free_uploads += 1
        self._free_bytes += slot.size_bytes

"""Limits how many uploads, and how many bytes of them, are in memory at the same time, in total and for each device."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType

from infra.process.monotonic import monotonic_s
from ingest.acceptance.errors import OverloadedError

_SETTINGS = "gateway.max_concurrent_uploads and gateway.max_in_flight_bytes"
_LATER = "Send the frame again after Retry-After seconds."
_MOST = ("this device had the most uploads in progress", f"Send fewer frames at the same time, or faster. {_LATER}")
_SLOWEST = ("it was the slowest one", "Continue it after Retry-After seconds; what was received is kept.")
"""Why a slot is taken away, and what to do then"""


@dataclass(slots=True)
class _Device:
    """Holds the uploads of one device, the oldest first."""

    slots: dict[Slot, None] = field(default_factory=dict)
    bytes: int = 0


@dataclass(eq=False, slots=True)
class Slot:
    """Is the place of one upload; it can be taken away while the body is read, for a device that has none."""

    device_id: str
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
                f"this upload made room for another device, because {why}", details=details
            ) from error

    def _cancel(self) -> None:
        self._task.cancel()


class UploadSlots:
    """Counts uploads in progress; a slot is reserved before a body is read, so that memory is limited.

    A device may have as many slots, and bytes, as are still free: alone at most half, and the less the more devices
    send. When all are used, a device without an upload takes the slot of the device with the most: of the upload whose
    body has been read for longest. So no device keeps another one out with many slow uploads.
    """

    def __init__(
        self, max_uploads: int, max_bytes: int, settings: str = _SETTINGS, turn_s: float | None = None
    ) -> None:
        """``settings``: the names of the settings that the limits come from, for error texts.

        ``turn_s``: for bodies without a time limit as a whole. When no device has several uploads, a device without one
        takes the slot of the slowest that has lasted for so long; None: of none.
        """
        self._settings = settings
        self._turn_s = turn_s
        self._free_uploads = max_uploads
        self._free_bytes = max_bytes
        self._devices: dict[str, _Device] = {}

    @contextmanager
    def reserve(self, size_bytes: int, device_id: str) -> Iterator[Slot]:
        """Reserve a slot for one upload of at most ``size_bytes``; raises OverloadedError when there is none."""
        slot = self.take(size_bytes, device_id)
        try:
            yield slot
        finally:
            self.give_back(slot)

    def take(self, size_bytes: int, device_id: str) -> Slot:
        """Return a slot, to be given back with :meth:`give_back`; raises OverloadedError when there is none."""
        own = self._devices.get(device_id)
        if own is not None:
            self._require_share(own, size_bytes)
        else:
            while not self._has_room(size_bytes) and (victim := self._victim()) is not None:
                self._release(victim[0])
                victim[0].take_away(victim[1])
        if not self._has_room(size_bytes):
            raise OverloadedError(
                "the gateway has as many uploads in progress as it accepts; nothing was read", details=_LATER
            )
        slot = Slot(device_id, size_bytes, since_s=monotonic_s())
        own = self._devices.setdefault(device_id, _Device())
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
            self._devices[slot.device_id].bytes -= slot.size_bytes - size_bytes
            self._free_bytes += slot.size_bytes - size_bytes
            slot.size_bytes = size_bytes

    def share(self, device_id: str) -> tuple[int, int]:
        """Return how many uploads, and how many bytes of them, ``device_id`` may have in progress now."""
        own = self._devices.get(device_id) or _Device()
        return (len(own.slots) + self._free_uploads) // 2, (own.bytes + self._free_bytes) // 2

    def _has_room(self, size_bytes: int) -> bool:
        return self._free_uploads >= 1 and self._free_bytes >= size_bytes

    def _require_share(self, own: _Device, size_bytes: int) -> None:
        count = len(own.slots)
        if count >= self._free_uploads or own.bytes + size_bytes > self._free_bytes - size_bytes:
            raise OverloadedError(
                f"this device has {count} uploads in progress, which is its share of {self._settings} now; nothing was "
                "read",
                details=f"Let uploads in progress end before sending more. {_LATER}",
            )

    def _victim(self) -> tuple[Slot, tuple[str, str]] | None:
        """Return the upload whose slot another device gets, and why it is that one."""
        oldest = self._oldest_of_most()
        if oldest is not None:
            return oldest, _MOST
        slowest = self._slowest()
        return None if slowest is None else (slowest, _SLOWEST)

    def _oldest_of_most(self) -> Slot | None:
        """Return the oldest body that is being read of the device with the most uploads, if it has several."""
        most = max(self._devices.values(), key=lambda each: len(each.slots), default=None)
        if most is None or len(most.slots) < 2:
            return None
        return next((slot for slot in most.slots if slot.is_reading), None)

    def _slowest(self) -> Slot | None:
        """Return the slowest upload of those that are being read and have had their turn."""
        if self._turn_s is None:
            return None
        latest_s = monotonic_s() - self._turn_s
        slots = (slot for device in self._devices.values() for slot in device.slots)
        had_turn = [slot for slot in slots if slot.is_reading and slot.since_s <= latest_s]
        now_s = latest_s + self._turn_s
        return min(had_turn, key=lambda slot: slot.received_bytes / (now_s - slot.since_s), default=None)

    def _release(self, slot: Slot) -> None:
        own = self._devices[slot.device_id]
        del own.slots[slot]
        own.bytes -= slot.size_bytes
        if not own.slots:
            del self._devices[slot.device_id]
        self._free_uploads += 1
        self._free_bytes += slot.size_bytes

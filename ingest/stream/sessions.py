"""Remembers how far each session of a device has come, so that a client that connects again can go on there."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Protocol

from ingest.stream.closing import CloseCode, StreamEnd


class Holder(Protocol):
    """Is the connection that uses a session."""

    def end(self, end: StreamEnd) -> None:
        """Close it when the frames in progress are answered."""
        ...


@dataclass(eq=False, slots=True)
class Session:
    """Holds the state of one session."""

    next: int
    """The sequence number of the first frame without an answer"""
    answers: deque[tuple[int, str]]
    """The last answers, for a client that has not received them"""
    repeated_below: int = 0
    """Frames below this number may have been published before, by this gateway or another"""
    unsure: bool = False
    """Whether what was published is to be read from the broker before more is"""
    holder: Holder | None = None
    """The newest connection; an older one only ends what it has begun"""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by the connection that sends frames"""

    def resume(self, following: int, resume: bool = True) -> list[str]:
        """Go on with frame ``following``, as the client asks; return the answers that it has not received.

        Without ``resume`` the client has sent no frame that has no answer: a program that was started anew and uses
        the name of its former session must not get the answers to frames of that.
        """
        if following == self.next:
            return []
        missed = [text for sequence, text in self.answers if sequence >= following]
        if resume and following < self.next and len(missed) == self.next - following:
            return missed
        # The client begins anew, knows of answers of another gateway, or has forgotten more than is remembered.
        self.repeated_below = max(self.repeated_below, self.next)
        self.next, self.unsure = following, True
        self.answers.clear()
        return []

    def answer(self, sequence: int, text: str) -> None:
        """Remember the answer to a frame."""
        self.next = sequence + 1
        self.answers.append((sequence, text))


class Sessions:
    """Holds the sessions of all devices, the one that was used last at the end; at most ``most`` of them."""

    def __init__(self, most: int, window_frames: int) -> None:
        self._most = most
        self._window_frames = window_frames
        self._sessions: OrderedDict[tuple[str, str], Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def take_over(self, device_id: str, name: str, following: int, resume: bool, holder: Holder) -> Session:
        """Return the session for ``holder``; a connection that has it ends.

        The newer connection wins: the gateway often notices late that the older one is dead.
        """
        key = device_id, name
        session = self._sessions.get(key)
        if session is None:
            answers: deque[tuple[int, str]] = deque(maxlen=self._window_frames)
            session = Session(following, answers, unsure=resume or following > 1, holder=holder)
            self._sessions[key] = session
            self._forget_oldest()
        self._sessions.move_to_end(key)
        former, session.holder = session.holder, holder
        if former is not None and former is not holder:
            former.end(StreamEnd(CloseCode.TAKEN_OVER, "another connection uses this session now"))
        return session

    def forget(self, device_id: str, name: str) -> None:
        """Forget a session whose client has finished."""
        self._sessions.pop((device_id, name), None)

    def _forget_oldest(self) -> None:
        if len(self._sessions) <= self._most:
            return
        key = next((key for key, session in self._sessions.items() if session.holder is None), None)
        if key is not None:
            del self._sessions[key]

"""Sessions: where a client goes on, which connection has one, and how many are kept."""

from __future__ import annotations

from collections import deque

from ingest.stream.closing import CloseCode, StreamEnd
from ingest.stream.sessions import Session, Sessions


class Connection:
    def __init__(self) -> None:
        self.ended: StreamEnd | None = None

    def end(self, end: StreamEnd) -> None:
        self.ended = end


def session(*sequences: int) -> Session:
    one = Session(1, deque(maxlen=4))
    for sequence in sequences:
        one.answer(sequence, f"answer {sequence}")
    return one


def test_resume_gives_the_missed_acknowledgements() -> None:
    one = session(1, 2, 3)
    assert one.resume(2) == ["answer 2", "answer 3"]
    assert (one.next, one.unsure) == (4, False)
    assert one.resume(4) == []


def test_resume_before_what_is_kept_goes_back_without_repetition() -> None:
    one = session(*range(1, 11))
    assert one.resume(3) == []
    assert (one.next, one.unsure, one.repeated_below) == (3, True, 11)


def test_resume_after_another_gateway_goes_on_there() -> None:
    one = session(1)
    assert one.resume(9) == []
    assert (one.next, one.unsure) == (9, True)
    assert not one.answers


def test_session_begins_anew_without_resume() -> None:
    one = session(1, 2, 3)
    assert one.resume(1, resume=False) == []
    # The frames may still be the same ones: they are looked up.
    assert (one.next, one.unsure, one.repeated_below) == (1, True, 4)
    assert not one.answers


def test_newer_connection_ends_the_older_one() -> None:
    sessions, older, newer = Sessions(10, 4), Connection(), Connection()
    first = sessions.take_over("drone-1", "s", 1, False, older)
    assert sessions.take_over("drone-1", "s", 1, False, newer) is first
    assert older.ended is not None and older.ended.code == CloseCode.TAKEN_OVER
    assert newer.ended is None and first.holder is newer
    # The same name of another device is another session.
    assert sessions.take_over("drone-2", "s", 1, False, Connection()) is not first


def test_session_that_is_not_known_is_looked_up_when_it_resumes() -> None:
    sessions = Sessions(10, 4)
    assert not sessions.take_over("d", "a", 1, False, Connection()).unsure
    assert sessions.take_over("d", "b", 1, True, Connection()).unsure
    assert sessions.take_over("d", "c", 5, False, Connection()).unsure


def test_oldest_session_without_a_connection_is_forgotten() -> None:
    sessions = Sessions(2, 4)
    held = sessions.take_over("d", "held", 1, False, Connection())
    free = sessions.take_over("d", "free", 1, False, Connection())
    free.holder = None
    sessions.take_over("d", "new", 1, False, Connection())
    assert len(sessions) == 2
    assert sessions.take_over("d", "held", 1, False, Connection()) is held
    assert sessions.take_over("d", "free", 1, False, Connection()) is not free

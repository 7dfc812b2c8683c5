"""Ends the process at Ctrl-C or SIGTERM at once and without a traceback, at any moment of its life.

It imports little, so that it holds from nearly the first line of a program on.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_SHOW_CURSOR = b"\x1b[?25h"


def end_at_signals() -> None:
    """End the process at the first SIGTERM or SIGINT, with the status that a shell gives it.

    That is right while nothing is open that has to be closed. Blocks that have something to close take the signals
    over: :func:`exit_at_signals`, and an event loop (:mod:`infra.process.run_until_signal`). A SIGINT that the
    parent process has switched off, as shells do for background commands, stays off.
    """
    for number in STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


def end_now(number: int) -> None:
    """End the process as if the signal ``number`` had ended it; no cleanup runs."""
    if sys.__stderr__ is not None:
        # A progress bar may have hidden the cursor of the terminal.
        with suppress(OSError, ValueError):
            if sys.__stderr__.isatty():
                os.write(sys.__stderr__.fileno(), _SHOW_CURSOR)
    os._exit(128 + number)


@contextmanager
def exit_at_signals() -> Iterator[None]:
    """Raise SystemExit at the first SIGTERM or SIGINT inside the block, so that cleanups run; ignore later ones.

    A SIGINT that the parent process has switched off stays off, as in :func:`end_at_signals`.
    """
    came: list[int] = []

    def leave(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        for each in former:
            # Not SIG_IGN: Python complains of a signal that came before this and is handled after it.
            signal.signal(each, _ignore)
        raise SystemExit(128 + number)

    former = {
        number: signal.getsignal(number) for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN
    }
    for number in former:
        signal.signal(number, leave)
    try:
        yield
    except Exception:
        # Code of C that the signal has interrupted, such as an import, may have made another error of it.
        if came:
            raise SystemExit(128 + came[0]) from None
        raise
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    pass


def _end(number: int, _frame: FrameType | None) -> None:
    end_now(number)

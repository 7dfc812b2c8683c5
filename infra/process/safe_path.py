"""Starts multiprocessing children as ``python -P`` does, so that files of the current folder cannot replace modules."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from infra.process.ending import STOP_SIGNALS

_VARIABLE = "PYTHONSAFEPATH"


@contextmanager
def children_with_safe_path() -> Iterator[None]:
    """Keep the current folder off the import path of children that ``multiprocessing`` starts inside the block.

    A spawned child is a ``python -c``, which puts the current folder first on its path until it gets the path of its
    parent: a ``signal.py`` or ``queue.py`` there would break it. There is no argument for ``-P``, only the environment.

    The children also begin with SIGINT and SIGTERM blocked: Ctrl-C reaches the whole group of processes, and a child
    that is still importing would print a traceback.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    former = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = "1"
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if former is None:
            del os.environ[_VARIABLE]
        else:
            os.environ[_VARIABLE] = former

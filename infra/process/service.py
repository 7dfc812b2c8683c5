"""Runs the main function of a service under uvloop, and ends the process with an exit status, if need be by force."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Coroutine

import uvloop

from infra.process.components import EXIT_FAILED
from infra.process.forced_exit import forced_exit
from infra.process.run_until_signal import run_until_signal
from schemas.errors import StandgaleError

logger = logging.getLogger(__name__)

# How many new objects start a collection of the youngest, and how many collections one of the next older ones.
_COLLECT_AFTER = (10_000, 20, 50)


def _configure_gc() -> None:
    """Make Python's garbage collector check new objects only, and less often.

    All imported objects live as long as the process. Each full collection would check all of them and stop every
    request during that time: a fifth of the gateway's Python time under load.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)


def run_service(main: Callable[[], Coroutine[None, None, int]]) -> int:
    """Run ``main`` under uvloop and return its exit status; a StandgaleError becomes a log line and status 1.

    A process whose threads do not end (an engine that hangs) is ended anyway, within seconds.
    """
    _configure_gc()
    with forced_exit() as ending:
        status = _status_of(main)
        ending.finish(status)
    return status


def _status_of(main: Callable[[], Coroutine[None, None, int]]) -> int:
    try:
        return run_until_signal(main(), uvloop.new_event_loop)
    except StandgaleError as error:
        logger.error("%s", error, extra={"code": error.code})
        return EXIT_FAILED
    except SystemExit as stopped:
        # A signal came before the components ran.
        return stopped.code if isinstance(stopped.code, int) else EXIT_FAILED

"""Runs the main function of a service: event loop, garbage collector, exit status and a forced end."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Coroutine

import uvloop

from infra.process.components import EXIT_FAILED
from infra.process.forced_exit import forced_exit
from schemas.errors import StandgaleError

logger = logging.getLogger(__name__)

EXIT_INTERRUPTED = 130
# New objects before the youngest are looked at, and how many such looks before the next older ones are.
_COLLECT_AFTER = (10_000, 20, 50)


def _configure_gc() -> None:
    """Let Python's cyclic garbage collector look at new objects only, and seldom.

    What is imported by now lives as long as the process, yet each full collection would walk all of it, and stop every
    request for as long: a fifth of the gateway's Python time under load.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)


def run_service(main: Callable[[], Coroutine[None, None, int]]) -> int:
    """Run ``main`` under uvloop to its exit status; an error Standgale can name becomes a log line and status 1.

    A process whose threads do not end (an engine that hangs) is ended all the same, within seconds.
    """
    _configure_gc()
    with forced_exit() as ending:
        status = _status_of(main)
        ending.finish(status)
    return status


def _status_of(main: Callable[[], Coroutine[None, None, int]]) -> int:
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(main())
    except StandgaleError as error:
        logger.error("%s", error, extra={"code": error.code})
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED

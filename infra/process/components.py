"""Runs the components of a process side by side, drains them on a signal, and stops them all when one ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from typing import Protocol

from infra.errors import SettingsError
from infra.process.forced_exit import force_exit_after
from infra.process.health import Health, HealthPart
from infra.process.stopping import stop_signals, waiting_for
from schemas.errors import StandgaleError

logger = logging.getLogger(__name__)

EXIT_OK = 0
EXIT_FAILED = 1
# How long a component has to end after it was cancelled, and the process after all its components did.
_CANCEL_TIMEOUT_S = 10.0
_END_TIMEOUT_S = 15.0


class Component(Protocol):
    """Is a part of a process that runs until it is asked to stop."""

    @property
    def name(self) -> str:
        """The name in health reports and logs."""
        ...

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Work until ``stop`` is set, then finish the work in progress and return; returning earlier is a failure."""


_Tasks = dict[asyncio.Task[None], Component]


async def run_components(
    components: Sequence[Component],
    *,
    health: Health,
    drain_timeout_s: float,
    last: Sequence[Component] = (),
    stop: asyncio.Event | None = None,
) -> int:
    """Run all ``components`` until SIGTERM, SIGINT, ``stop``, or the end of one of them; return the exit status.

    At a stop all components drain in parallel, for at most ``drain_timeout_s``, and are then cancelled (a second signal
    cancels at once). Those in ``last`` (the health server) stop after the others. The status is 0 after a stop in which
    all drained, and 1 when a component raised, returned too early, or had to be cancelled.
    """
    stopping = stop or asyncio.Event()
    hurry = asyncio.Event()
    stop_last = asyncio.Event()
    first_tasks = {_start_task(component, stopping, health): component for component in components}
    last_tasks = {_start_task(component, stop_last, health): component for component in last}
    everything = {**first_tasks, **last_tasks}
    try:
        with stop_signals(stopping, hurry):
            async with waiting_for(stopping) as stopped:
                await asyncio.wait({stopped, *everything}, return_when=asyncio.FIRST_COMPLETED)
            blamed = set() if stopping.is_set() else {task for task in everything if task.done()}
            for task in blamed:
                _report_failure(task, everything[task], health)
            stopping.set()
            clean = await _drain(_except_for(first_tasks, blamed), health, drain_timeout_s, hurry)
            stop_last.set()
            clean &= await _drain(_except_for(last_tasks, blamed), health, drain_timeout_s, hurry)
    finally:
        for task in everything:
            task.cancel()
    force_exit_after(_END_TIMEOUT_S)
    clean = clean and not blamed
    logger.info("stopped", extra={"clean": clean})
    return EXIT_OK if clean else EXIT_FAILED


def _except_for(tasks: _Tasks, others: set[asyncio.Task[None]]) -> _Tasks:
    return {task: component for task, component in tasks.items() if task not in others}


def _start_task(component: Component, stop: asyncio.Event, health: Health) -> asyncio.Task[None]:
    return asyncio.create_task(component.run(stop, health.part(component.name)), name=component.name)


def _report_failure(task: asyncio.Task[None], component: Component, health: Health) -> None:
    """Report in log and health that ``component`` ended without a stop, and why."""
    error = None if task.cancelled() else task.exception()
    if error is None:
        reason = "it returned although no stop was requested"
        logger.error("component %s stopped: %s; stopping the process", component.name, reason)
    else:
        # Health is open to the network, so of errors that Standgale does not define it shows the type only.
        reason = "; ".join(
            f"{type(cause).__name__}: {cause}" if isinstance(cause, StandgaleError) else type(cause).__name__
            for cause in _causes(error)
        )
        # For a wrong setting the sentence is enough; a traceback would not help.
        trace = None if all(isinstance(cause, SettingsError) for cause in _causes(error)) else error
        logger.error(
            "component %s failed: %s; stopping the process", component.name, _describe_errors(error), exc_info=trace
        )
    health.part(component.name).set_dead(reason)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors inside ``error``; the text of an error group does not contain theirs."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _causes(each)
    else:
        yield error


def _describe_errors(error: BaseException) -> str:
    return "; ".join(str(cause) or type(cause).__name__ for cause in _causes(error))


async def _drain(tasks: _Tasks, health: Health, timeout_s: float, hurry: asyncio.Event) -> bool:
    """Wait for ``tasks`` to drain, then cancel them; return whether all ended in time and without an error."""
    if not tasks:
        return True
    for task, component in tasks.items():
        if not task.done():
            health.part(component.name).set_not_ready("draining")
    async with waiting_for(hurry) as hurried:
        everyone = asyncio.create_task(asyncio.wait(tasks))
        await asyncio.wait({everyone, hurried}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        late = {task for task in tasks if not task.done()}
        for task in late:
            logger.error("component %s did not drain in time; cancelling it", tasks[task].name)
            task.cancel()
        await asyncio.wait({everyone}, timeout=_CANCEL_TIMEOUT_S if late else None)
    clean = not late
    for task, component in tasks.items():
        if not task.done():
            logger.error("component %s has not ended after its cancellation; the process ends anyway", component.name)
            continue
        error = None if task.cancelled() else task.exception()
        if error is None:
            health.part(component.name).set_done()
        else:
            logger.error(
                "component %s failed while draining: %s", component.name, _describe_errors(error), exc_info=error
            )
            clean = False
    return clean

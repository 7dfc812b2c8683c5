"""Runs all checks in parallel, each with a time limit; one that fails or hangs does not stop the others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

from infra.failure.error_texts import error_code, error_text
from standgale.doctor.port import LEVELS, Check, DoesNotExistError, Finding, Level, problem, warning

T = TypeVar("T")

_CANCEL_S = 1.0
_END_S = 0.1
_THREAD = "doctor"


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """Holds the findings by subject, in the order of the checks."""

    findings: Sequence[tuple[str, Finding]]
    hung: bool
    """Whether a check, or the thread of one, still runs: the process must then end without the end of the interpreter,
    which stops a thread inside a library, such as one that loads a model, with an abort (status 134)"""

    @property
    def level(self) -> Level:
        """The worst level of the findings."""
        return max((finding.level for _, finding in self.findings), key=LEVELS.index, default="ok")


async def examine(checks: Sequence[Check], timeout_s: float) -> DoctorReport:
    """Run ``checks``, each within ``timeout_s``, and return their findings."""
    tasks = [asyncio.create_task(check.look(), name=check.subject) for check in checks]
    if tasks:
        await asyncio.wait(tasks, timeout=timeout_s)
    late = {task for task in tasks if not task.done()}
    for task in late:
        task.cancel()
    stuck = (await asyncio.wait(late, timeout=_CANCEL_S))[1] if late else set()
    findings: list[tuple[str, Finding]] = []
    for check, task in zip(checks, tasks, strict=True):
        found = [_too_late(timeout_s)] if task in late else _found(task)
        findings.extend((check.subject, finding) for finding in found)
    return DoctorReport(findings, bool(stuck) or _has_threads())


def _has_threads() -> bool:
    """Whether a thread of a check still works; one that has its result ends in a moment."""
    threads = [each for each in threading.enumerate() if each.name == _THREAD]
    for each in threads:
        each.join(_END_S)
    return any(each.is_alive() for each in threads)


def _too_late(timeout_s: float) -> Finding:
    return problem(
        f"no response within {timeout_s:g} s",
        "check whether the server is overloaded or unreachable; --timeout gives it longer",
    )


def _found(task: asyncio.Task[Sequence[Finding]]) -> Sequence[Finding]:
    error = task.exception()
    if error is None:
        return task.result()
    if isinstance(error, DoesNotExistError):
        return [warning(str(error), "start the services, unless nothing should run here yet")]
    return [problem(f"{error_code(error)}: {error_text(error)}", "correct what the text names")]


async def in_thread(work: Callable[[], T]) -> T:
    """Run ``work`` in a daemon thread and return its result; the process can end even if ``work`` hangs."""
    done: Future[T] = Future()
    # So that it cannot be cancelled: the thread sets it also after the waiting task was cancelled.
    done.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 (raised where the result is awaited)
            done.set_exception(error)
        else:
            done.set_result(result)

    threading.Thread(target=run, name=_THREAD, daemon=True).start()
    return await asyncio.wrap_future(done)

"""The life of a process: components run side by side, a signal drains them, a dead one stops them all."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Protocol

import uvicorn
import uvloop
from starlette.types import ASGIApp

from infra.errors import SettingsError
from infra.process.forced_exit import expect_end, process_ending
from infra.process.health import Health, HealthPart, health_app
from infra.telemetry.settings import TelemetrySettings
from schemas.errors import StandgaleError

logger = logging.getLogger(__name__)

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130
# New objects before the youngest are looked at, and how many such looks before the next older ones are.
_COLLECT_AFTER = (10_000, 20, 50)
# What the HTTP servers keep of the drain time to close up after cancelling requests that do not end.
_HTTP_SHARE = 0.8
# How long a component has to end after it was cancelled, and the process after all its components did.
_CANCEL_TIMEOUT_S = 10.0
_END_TIMEOUT_S = 15.0


class StartError(StandgaleError):
    """A component could not start."""

    code = "START_FAILED"


class Component(Protocol):
    """Something that works until it is told to stop."""

    @property
    def name(self) -> str:
        """Its name in health reports and logs."""
        ...

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Work until ``stop`` is set, then finish what is under way and return. Returning earlier is a failure."""


async def run_components(
    components: Sequence[Component],
    *,
    health: Health,
    drain_timeout_s: float,
    last: Sequence[Component] = (),
    stop: asyncio.Event | None = None,
) -> int:
    """Run all ``components`` until SIGTERM, SIGINT, ``stop``, or the end of one of them; return the exit status.

    On a stop all drain side by side, for at most ``drain_timeout_s``, then they are cancelled (a second signal cancels
    at once). Those in ``last`` (the health server) are told to stop when the others are done. 0: told to stop and
    drained; 1: a component raised, returned by itself, or had to be cancelled.
    """
    stopping = stop or asyncio.Event()
    hurry = asyncio.Event()
    stop_last = asyncio.Event()
    first_tasks = {_start(component, stopping, health): component for component in components}
    last_tasks = {_start(component, stop_last, health): component for component in last}
    everything = {**first_tasks, **last_tasks}
    try:
        with _signals(stopping, hurry):
            async with _waiting_for(stopping) as told:
                await asyncio.wait({told, *everything}, return_when=asyncio.FIRST_COMPLETED)
            blamed = set() if stopping.is_set() else {task for task in everything if task.done()}
            for task in blamed:
                _blame(task, everything[task], health)
            stopping.set()
            clean = await _drain(_without(first_tasks, blamed), health, drain_timeout_s, hurry)
            stop_last.set()
            clean &= await _drain(_without(last_tasks, blamed), health, drain_timeout_s, hurry)
    finally:
        for task in everything:
            task.cancel()
    expect_end(_END_TIMEOUT_S)
    clean = clean and not blamed
    logger.info("stopped", extra={"clean": clean})
    return EXIT_OK if clean else EXIT_FAILED


_Tasks = dict[asyncio.Task[None], Component]


def _without(tasks: _Tasks, others: set[asyncio.Task[None]]) -> _Tasks:
    return {task: component for task, component in tasks.items() if task not in others}


def _start(component: Component, stop: asyncio.Event, health: Health) -> asyncio.Task[None]:
    return asyncio.create_task(component.run(stop, health.part(component.name)), name=component.name)


@contextmanager
def _signals(stopping: asyncio.Event, hurry: asyncio.Event) -> Iterator[None]:
    """SIGTERM and SIGINT set ``stopping`` the first time and ``hurry`` from then on."""
    loop = asyncio.get_running_loop()

    def caught(name: str) -> None:
        if stopping.is_set():
            logger.warning("%s again: cancelling what is under way", name)
            hurry.set()
        else:
            logger.info("%s: draining", name)
            stopping.set()

    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, caught, number.name)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


@asynccontextmanager
async def _waiting_for(event: asyncio.Event) -> AsyncIterator[asyncio.Task[bool]]:
    task = asyncio.create_task(event.wait())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})


def _blame(task: asyncio.Task[None], component: Component, health: Health) -> None:
    """Say in log and health that ``component`` ended though nobody told it to, and why."""
    error = None if task.cancelled() else task.exception()
    if error is None:
        reason = "it returned though nobody told it to stop"
        logger.error("component %s stopped: %s; stopping the process", component.name, reason)
    else:
        # Health is open to the network: of errors that are not ours it tells the type only.
        reason = "; ".join(
            f"{type(cause).__name__}: {cause}" if isinstance(cause, StandgaleError) else type(cause).__name__
            for cause in _causes(error)
        )
        # For what a person has to correct, the sentence is enough; a traceback would not help.
        trace = None if all(isinstance(cause, SettingsError) for cause in _causes(error)) else error
        logger.error("component %s failed: %s; stopping the process", component.name, _told(error), exc_info=trace)
    health.part(component.name).set_dead(reason)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """What went wrong: a group of errors, as a task group raises it, says nothing by itself."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _causes(each)
    else:
        yield error


def _told(error: BaseException) -> str:
    return "; ".join(str(cause) or type(cause).__name__ for cause in _causes(error))


async def _drain(tasks: _Tasks, health: Health, timeout_s: float, hurry: asyncio.Event) -> bool:
    """Wait for ``tasks`` that were told to stop, then cancel; whether all ended by themselves and well."""
    if not tasks:
        return True
    for task, component in tasks.items():
        if not task.done():
            health.part(component.name).set_not_ready("draining")
    async with _waiting_for(hurry) as hurried:
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
            logger.error("component %s does not end though it was cancelled; it is left behind", component.name)
            continue
        error = None if task.cancelled() else task.exception()
        if error is None:
            health.part(component.name).set_done()
        else:
            logger.error("component %s failed while draining: %s", component.name, _told(error), exc_info=error)
            clean = False
    return clean


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process has one place for signals, and it is not this one."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and tell that it is done. Raises StartError, where uvicorn itself would end the whole process."""
        try:
            await super().startup(sockets)
        except SystemExit as error:
            raise StartError("the HTTP app did not start; its own error stands in the log above") from error
        self.listening.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the process's signal handlers alone."""
        yield


class HttpComponent:
    """An ASGI app under uvicorn. Several may run in one event loop.

    ``setting`` is the section whose ``host`` and ``port`` these are, for the error text. ``on_stop`` is called when the
    stop is told, before connections are closed: streams end themselves there.
    """

    def __init__(
        self,
        name: str,
        app: ASGIApp,
        *,
        host: str,
        port: int,
        drain_timeout_s: float = 25.0,
        setting: str | None = None,
        on_stop: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        self._host = host
        self._port = port
        self._setting = setting or name
        self._on_stop = on_stop
        self._socket: socket.socket | None = None
        self._server = _Server(
            uvicorn.Config(
                app,
                http="httptools",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=max(1, int(drain_timeout_s * _HTTP_SHARE)),
            )
        )

    def bind(self) -> int:
        """Take the port (``run`` does it too) and return its number, which port 0 leaves open until now.

        Raises SettingsError when the port is taken or the host is none of this machine's.
        """
        if self._socket is None:
            try:
                family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
                self._socket = socket.create_server((self._host, self._port), family=family, backlog=2048)
            except OSError as error:
                raise SettingsError(
                    f"{self.name} can't listen on {self._host}:{self._port} ({error.strerror}); "
                    f"change {self._setting}.host or {self._setting}.port, or stop what uses it"
                ) from error
            self._socket.setblocking(False)
        return self.port

    @property
    def port(self) -> int:
        """The bound port; the configured one before :meth:`bind`."""
        return int(self._socket.getsockname()[1]) if self._socket is not None else self._port

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Serve until ``stop`` is set, then let open requests finish."""
        self.bind()
        assert self._socket is not None
        serving = asyncio.create_task(self._server.serve(sockets=[self._socket]), name=f"{self.name}-http")
        try:
            async with _waiting_for(self._server.listening) as up:
                await asyncio.wait({up, serving}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                await serving
            logger.info("%s listens on http://%s:%d", self.name, self._host, self.port)
            health.set_ready()
            async with _waiting_for(stop) as told:
                await asyncio.wait({told, serving}, return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set() and self._on_stop is not None:
                self._on_stop()
            self._server.should_exit = True
            await serving
        finally:
            if not serving.done():
                serving.cancel()
                await asyncio.wait({serving})
            self._socket.close()


def health_component(settings: TelemetrySettings, health: Health) -> HttpComponent:
    """The server of `/health/live`, `/health/ready` and `/metrics`."""
    return HttpComponent(
        "health",
        health_app(health),
        host=settings.health_host,
        port=settings.health_port,
        drain_timeout_s=5.0,
        setting="telemetry.health",
    )


def _settle_collector() -> None:
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
    _settle_collector()
    with process_ending() as ending:
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

"""Injects faults into one process: its clock jumps, its disk is slow, its engine fails or hangs."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.campaign.fault_file import EngineFault, FaultFile
from tests.campaign.faults.kind import Kind, aspect

_HOUR_S, _DAY_S = 3_600.0, 86_400.0
_SHIFTS_S = (-10 * _DAY_S, -_DAY_S, -2 * _HOUR_S, -90.0, 90.0, 2 * _HOUR_S, _DAY_S, 10 * _DAY_S)
"""Longer than the retention of frames (7 days), shorter than that of detections (30 days), which the result needs."""


@dataclass
class InjectedFault:
    """Injects one fault into a process and removes it."""

    name: str
    inject: Callable[[], None]
    remove: Callable[[], None]

    async def start(self) -> None:
        self.inject()

    async def end(self) -> None:
        self.remove()


def kinds(fault_files: dict[str, FaultFile]) -> list[Kind]:
    """Return all kinds that are injected into one process; they overlap with its other faults."""

    def clock(target: str, rng: random.Random) -> InjectedFault:
        fault_file, shift_s = fault_files[target], rng.choice(_SHIFTS_S)
        name = f"clock of {target} {shift_s / _HOUR_S:+.3g} h"
        return InjectedFault(name, lambda: fault_file.shift_clock(shift_s), lambda: fault_file.shift_clock(0))

    def slow(target: str, rng: random.Random) -> InjectedFault:
        fault_file, delay_s = fault_files[target], rng.uniform(0.05, 0.5)
        name = f"disk of {target} slow by {delay_s:.2f} s"
        return InjectedFault(name, lambda: fault_file.delay_syncs(delay_s), lambda: fault_file.delay_syncs(0))

    def engine(fault: EngineFault) -> Callable[[str, random.Random], InjectedFault]:
        return lambda target, rng: InjectedFault(
            f"engine of {target} {fault.name.lower()}",
            lambda: setattr(fault_files[target], "engine", fault),
            lambda: setattr(fault_files[target], "engine", EngineFault.NONE),
        )

    everyone = tuple(fault_files)
    detectors = tuple(name for name in fault_files if name.startswith("detector"))
    return [
        Kind("clock_shift", everyone, (2.0, 8.0), clock, 3.0, aspect("clock")),
        Kind("slow_disk", everyone, (1.0, 5.0), slow, 1.5, aspect("disk")),
        Kind("engine_fails", detectors, (1.0, 6.0), engine(EngineFault.FAILS), 1.0, aspect("engine")),
        Kind("engine_hangs", detectors, (2.0, 10.0), engine(EngineFault.HANGS), 1.0, aspect("engine")),
    ]

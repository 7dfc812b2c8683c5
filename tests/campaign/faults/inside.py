"""What goes wrong inside one process: its clock jumps, its disk is slow, its engine fails or hangs."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.campaign.control import Control, EngineFault
from tests.campaign.faults.kind import Kind, aspect

_HOUR_S, _DAY_S = 3_600.0, 86_400.0
_SHIFTS_S = (-10 * _DAY_S, -_DAY_S, -2 * _HOUR_S, -90.0, 90.0, 2 * _HOUR_S, _DAY_S, 10 * _DAY_S)
"""Beyond the retention of frames (7 days), below that of detections (30 days), which are needed for the reckoning."""


@dataclass
class Disturbed:
    """One aspect of a process, set wrong and set right."""

    name: str
    wrong: Callable[[], None]
    right: Callable[[], None]

    async def strike(self) -> None:
        self.wrong()

    async def heal(self) -> None:
        self.right()


def kinds(controls: dict[str, Control]) -> list[Kind]:
    """All kinds that disturb one process from inside; they overlap with what else happens to it."""

    def clock(target: str, rng: random.Random) -> Disturbed:
        control, shift_s = controls[target], rng.choice(_SHIFTS_S)
        name = f"clock of {target} {shift_s / _HOUR_S:+.3g} h"
        return Disturbed(name, lambda: control.shift_clock(shift_s), lambda: control.shift_clock(0))

    def slow(target: str, rng: random.Random) -> Disturbed:
        control, delay_s = controls[target], rng.uniform(0.05, 0.5)
        name = f"disk of {target} slow by {delay_s:.2f} s"
        return Disturbed(name, lambda: control.delay_syncs(delay_s), lambda: control.delay_syncs(0))

    def engine(fault: EngineFault) -> Callable[[str, random.Random], Disturbed]:
        return lambda target, rng: Disturbed(
            f"engine of {target} {fault.name.lower()}",
            lambda: setattr(controls[target], "engine", fault),
            lambda: setattr(controls[target], "engine", EngineFault.NONE),
        )

    everybody = tuple(controls)
    detectors = tuple(name for name in controls if name.startswith("detector"))
    return [
        Kind("clock_shift", everybody, (2.0, 8.0), clock, 3.0, aspect("clock")),
        Kind("slow_disk", everybody, (1.0, 5.0), slow, 1.5, aspect("disk")),
        Kind("engine_fails", detectors, (1.0, 6.0), engine(EngineFault.FAILS), 1.0, aspect("engine")),
        Kind("engine_hangs", detectors, (2.0, 10.0), engine(EngineFault.HANGS), 1.0, aspect("engine")),
    ]

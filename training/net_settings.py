"""Holds the size of the net."""

from dataclasses import dataclass


@dataclass(frozen=True)
class NetSettings:
    """Holds the size of the net: channels at strides 2, 4, 8 and 16, and the number of classes."""

    classes: int = 4
    channels: tuple[int, int, int, int] = (16, 32, 64, 128)

"""Says how a user adds an extra of Standgale's distribution, such as geo; errors of a missing library end in it."""

from __future__ import annotations

_QUICK_START = ("cpu", "embedded")
"""The extras that the README installs; ``uv tool install`` has to name all extras again, not only the new ones."""


def install_extra(*extras: str) -> str:
    """Return the advice to install ``extras``, with the commands for an application and for an environment with pip."""
    names = f"the extra{'s' * (len(extras) > 1)} {' and '.join(extras)}"
    # The packages of cpu and cuda share their files, so only one of them is installed.
    base = [name for name in _QUICK_START if not (name == "cpu" and "cuda" in extras)]
    every = ",".join(dict.fromkeys([*base, *extras]))
    return (
        f"install {names} of standgale: in its checkout `uv tool install '.[{every}]'`, "
        f"or `pip install -e '.[{','.join(extras)}]'`"
    )

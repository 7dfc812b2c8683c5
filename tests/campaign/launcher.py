"""Runs ``standgale`` with an engine that fails or hangs when the campaign orders it; the program has no such hook."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from tests.campaign.control import VARIABLE, Control, EngineFault


def disturb_engine(control: Control) -> None:
    """Let every model of this process look at ``control`` before it works."""
    from detectors.model.predict import Model

    infer = Model.infer

    def disturbed(self: Model, *arguments: Any, **named: Any) -> Any:
        while control.engine is EngineFault.HANGS:
            time.sleep(0.05)
        if control.engine is EngineFault.FAILS:
            raise RuntimeError("the engine fails, as the campaign ordered")
        return infer(self, *arguments, **named)

    Model.infer = disturbed  # type: ignore[method-assign]


if __name__ == "__main__":
    if "detector" in sys.argv:
        disturb_engine(Control(Path(os.environ[VARIABLE])))
    from standgale.cli import main

    main()

"""Runs ``standgale`` with an engine that fails or hangs on request; the program itself has no such hook."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from tests.campaign.fault_file import VARIABLE, EngineFault, FaultFile


def inject_engine_faults(fault_file: FaultFile) -> None:
    """Make every model of this process obey ``fault_file`` before it runs."""
    from detectors.model.predict import Model

    infer = Model.infer

    def infer_with_faults(self: Model, *arguments: Any, **named: Any) -> Any:
        while fault_file.engine is EngineFault.HANGS:
            time.sleep(0.05)
        if fault_file.engine is EngineFault.FAILS:
            raise RuntimeError("the engine fails, as the campaign requested")
        return infer(self, *arguments, **named)

    Model.infer = infer_with_faults  # type: ignore[method-assign]


if __name__ == "__main__":
    if "detector" in sys.argv:
        inject_engine_faults(FaultFile(Path(os.environ[VARIABLE])))
    from standgale.start import main

    main()

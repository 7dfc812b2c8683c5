"""Makes the rules engine when a wheel is built, so that an installation from a checkout has it where npm is installed.

Without npm the wheel is built all the same: the client side needs no rules, and SWI-Prolog can run them. A release sets
STANDGALE_REQUIRE_RULES_ENGINE, with which the build fails instead.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class RulesEngineHook(BuildHookInterface):  # type: ignore[type-arg, misc]
    """Is called by hatchling before a wheel is put together."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the module that runs rules. Raises SystemExit when it is required and cannot be made."""
        del version, build_data
        module = runpy.run_path(str(Path(self.root) / "detectors" / "rules" / "engines" / "module" / "build.py"))
        try:
            module["build"]()
        except module["BuildError"] as error:
            text = f"the rules engine was not built: {error}"
            if os.environ.get("STANDGALE_REQUIRE_RULES_ENGINE"):
                raise SystemExit(text) from error
            print(text, file=sys.stderr)

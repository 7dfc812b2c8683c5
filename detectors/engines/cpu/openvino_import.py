"""Imports OpenVINO without its usage statistics.

At each import OpenVINO sends an event to Google Analytics and makes a folder ``intel`` in the user's home. Standgale
sends nothing that its user did not ask for; and where packets to the outside are dropped, the sending thread would
delay the end of each process.
"""

# ruff: noqa: E402 (what is switched off must be off before the import)

from __future__ import annotations

import sys

# OpenVINO does without this package where it can't be imported.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # how Python marks what must not be imported

import openvino as ov
from openvino import preprocess

__all__ = ["ov", "preprocess"]

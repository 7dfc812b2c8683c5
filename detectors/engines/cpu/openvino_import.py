"""Imports OpenVINO without its usage statistics.

At each import OpenVINO sends an event to Google Analytics and creates a folder ``intel`` in the user's home. Standgale
sends nothing without its user's request. Where a firewall drops packets, the sending thread would also delay the end of
each process.
"""

# ruff: noqa: E402 (what is switched off must be off before the import)

from __future__ import annotations

import sys

# It converts models of other kinds, which nothing here does; without it some megabytes less are imported.
sys.modules.setdefault("openvino.tools.ovc", None)  # type: ignore[arg-type]
# OpenVINO works without this package where it cannot be imported.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # how Python marks what must not be imported

import openvino as ov
from openvino import preprocess

__all__ = ["ov", "preprocess"]

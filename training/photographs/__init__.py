"""Reads labelled photographs, and measures models on them with the production code."""

from training.photographs.folder import (
    Photograph,
    PhotographError,
    Photographs,
    Split,
    read_photographs,
)

__all__ = ["Photograph", "PhotographError", "Photographs", "Split", "read_photographs"]

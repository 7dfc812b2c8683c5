"""Defines the settings of data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from infra.sections import Section


class DatasetSettings(Section):
    """Says where data sets are kept, and how large they may become.

    They are branches of the LakeFS repository when lakefs.kind is lakefs.
    """

    section = "datasets"

    folder: Path | None = Field(
        default=None, description="their folder when lakefs.kind is folder; default DATA_DIR/datasets"
    )
    max_pictures: Annotated[int, Field(ge=1, le=10_000_000)] = Field(
        default=100_000, description="the most pictures of a data set"
    )
    max_boxes: Annotated[int, Field(ge=1, le=100_000_000)] = Field(
        default=5_000_000, description="the most boxes of a data set"
    )
    query_timeout_s: Annotated[float, Field(ge=1, le=86_400)] = Field(
        default=600.0,
        description="the time limit of a query for a thousand of its rows, the first of which take longest",
    )
    transfers: Annotated[int, Field(ge=1, le=64)] = Field(
        default=8, description="how many files are read or written at the same time"
    )

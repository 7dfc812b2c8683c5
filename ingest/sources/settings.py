"""Defines the settings of the processes that pull cameras."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from infra.sections import Interval, PositiveInt, Section


class SourcesSettings(Section):
    """Says how processes share the cameras that they pull, and where logins and files are."""

    section = "sources"

    lease_s: Annotated[float, Field(ge=1, le=86_400)] = Field(
        default=10.0,
        description="for how long a process has a camera without renewing it; after a process was killed or frozen, "
        "another one takes its cameras over after this time",
    )
    poll_s: Interval = Field(
        default=1.0, description="how often leases are renewed, and sources looked for that were added or removed"
    )
    most: PositiveInt = Field(default=32, description="the most sources that one process pulls; it limits its memory")
    logins: Path | None = Field(
        default=None,
        description="a folder with a file for each source that needs a login, called like it: user:password, or the "
        "whole address; default DATA_DIR/source-logins",
    )
    folders: tuple[Path, ...] = Field(
        default=(), description="folders whose files may be sources; none: only addresses of the network"
    )

    @model_validator(mode="after")
    def _several_polls_per_lease(self) -> Self:
        if self.poll_s * 3 > self.lease_s:
            raise ValueError(
                f"{self.named('poll_s')}: received {self.poll_s:g}; it takes at most a third of "
                f"{self.named('lease_s')}, which is {self.lease_s:g}"
            )
        return self

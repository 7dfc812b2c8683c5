"""Defines the settings of the database: its address, its pool and its time limit."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, SecretStr, model_validator

from infra.sections import PositiveSeconds, Section


class DatabaseSettings(Section):
    """Says how to reach PostgreSQL; without a url an embedded server runs in DATA_DIR/postgres."""

    section = "database"

    url: SecretStr | None = Field(
        default=None,
        description="postgresql://user:password@host:port/database; a file is read again for each new connection",
    )
    pool_min: Annotated[int, Field(ge=1, le=1_000)] = Field(default=1, description="connections that are kept open")
    pool_max: Annotated[int, Field(ge=1, le=1_000)] = Field(
        default=10,
        description="the most connections of a process, which all its parts share",
    )
    command_timeout_s: PositiveSeconds = Field(
        default=30.0, description="the time limit for a statement, and for a free connection"
    )

    @model_validator(mode="after")
    def _pool(self) -> Self:
        self.require_at_most("pool_min", "pool_max")
        return self

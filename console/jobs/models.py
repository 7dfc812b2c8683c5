"""Checks that the model version that a job asks for is in the model store."""

from __future__ import annotations

from console.jobs.config import JobConfig
from console.jobs.errors import InvalidConfigError
from console.jobs.options import model_of
from console.ports import ModelNames

_SHOWN = 10


async def require_model(config: JobConfig, models: ModelNames) -> None:
    """Raise InvalidConfigError when ``config`` asks for a version that the store does not have."""
    asked = model_of(config)
    if asked is None:
        return
    known = await models.versions()
    if known is None or asked in known:
        return
    others = [model.version for model in known if model.name == asked.name]
    if others:
        raise InvalidConfigError.of(
            "config.model.version",
            f"{asked.name} has no version {asked.version!r}; it has {', '.join(others[-_SHOWN:])}",
        )
    names = sorted({model.name for model in known})
    raise InvalidConfigError.of(
        "config.model.name", f"There is no model {asked.name!r}; there are {', '.join(names[:_SHOWN]) or 'none'}"
    )

"""Checks that the model version that a request asks for is in the model store, and that it takes the text given."""

from __future__ import annotations

from dataclasses import dataclass

from console.http.errors import InvalidConfigError
from console.ports import ModelNames
from schemas.event_base import ModelRef

_SHOWN = 10


@dataclass(frozen=True, slots=True)
class ModelFields:
    """Names the fields of a request with the model and the text, for errors."""

    model: str
    prompt: str


async def require_model(asked: ModelRef | None, prompt: str | None, models: ModelNames, fields: ModelFields) -> None:
    """Raise InvalidConfigError for a version that the store does not have, and for a prompt that it does not take.

    ``asked``: None: the one that is active.
    """
    if asked is not None:
        await _require_version(asked, models, fields)
    if prompt is not None:
        await _require_text(asked, models, fields)


async def _require_text(asked: ModelRef | None, models: ModelNames, fields: ModelFields) -> None:
    """Raise InvalidConfigError when no version that may get the frames takes a text."""
    chosen = await models.active() if asked is None else [asked]
    if not chosen or any([await models.takes_prompt(model) is not False for model in chosen]):
        # One that is not known now is left to the detector.
        return
    names = ", ".join(f"{model.name} {model.version}" for model in chosen)
    raise InvalidConfigError.of(
        fields.prompt, f"Must be left out: {names} takes no text; name a model that does in {fields.model}"
    )


async def _require_version(asked: ModelRef, models: ModelNames, fields: ModelFields) -> None:
    known = await models.versions()
    if known is None or asked in known:
        return
    others = [model.version for model in known if model.name == asked.name]
    if others:
        raise InvalidConfigError.of(
            f"{fields.model}.version",
            f"{asked.name} has no version {asked.version!r}; it has {', '.join(others[-_SHOWN:])}",
        )
    names = sorted({model.name for model in known})
    raise InvalidConfigError.of(
        f"{fields.model}.name", f"There is no model {asked.name!r}; there are {', '.join(names[:_SHOWN]) or 'none'}"
    )

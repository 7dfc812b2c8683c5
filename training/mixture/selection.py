"""Reads which photographs a training uses: shares of labelled sets, regions left out, pictures without objects."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.errors import StandgaleError

Region = tuple[float, float, float, float]
"""xyxy in pixels of the picture."""


class SelectionError(StandgaleError):
    """Says that a selection of photographs cannot be used."""


class PhotoSelection(BaseModel):
    """Names photographs by their path within the folder, `set/images/file`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    labelled: Annotated[Mapping[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]], Field(min_length=1)]
    """The sets of the training split, each with its share of the labelled crops."""
    negatives: Mapping[str, tuple[Region, ...]]
    """Pictures that show nothing of any class outside the given regions."""
    left_out: Mapping[str, tuple[Region, ...]] = {}
    """Regions of labelled pictures in which objects are not labelled."""


def read_selection(path: Path) -> PhotoSelection:
    """Read a selection from YAML. Raises SelectionError with the file's name."""
    try:
        return PhotoSelection.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SelectionError(f"{path} cannot be read: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise SelectionError(f"{path}: {where}: {first['msg']}; see training/selections for an example") from error

"""Defines the errors of data sets, by what has to be done about them."""

from __future__ import annotations

from typing import Self

from schemas.errors import StandgaleError


class DatasetNameError(StandgaleError):
    """A text is no name of a data set."""

    code = "INVALID_DATASET_NAME"


class DatasetQueryError(StandgaleError):
    """A query cannot be read; the text names the place and what is possible there."""

    code = "INVALID_QUERY"


class DatasetOptionError(StandgaleError):
    """An option of a data set is wrong, or more is asked for than may be."""

    code = "INVALID_DATASET_OPTION"


class DatasetEmptyError(StandgaleError):
    """A query selects no picture."""

    code = "DATASET_EMPTY"


class DatasetExistsError(StandgaleError):
    """There is another data set, or something else, of that name."""

    code = "DATASET_EXISTS"


class DatasetNotFoundError(StandgaleError):
    """There is no data set of that name."""

    code = "DATASET_NOT_FOUND"

    @classmethod
    def of(cls, name: str, where: str) -> Self:
        """Return the error for ``name`` in the store ``where``."""
        return cls(f"there is no data set {name} in {where}; `standgale dataset list` shows all")


class DatasetBusyError(StandgaleError):
    """Another process works on the same data set, or in the same folder."""

    code = "DATASET_BUSY"


class DatasetDamagedError(StandgaleError):
    """A file of a data set is missing, or is not what was written."""

    code = "DATASET_DAMAGED"


class DatasetPictureError(StandgaleError):
    """The frame store does not have pictures that a query selects."""

    code = "DATASET_PICTURES_MISSING"

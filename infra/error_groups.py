"""Finds the error that a group of errors is raised for."""

from __future__ import annotations

from schemas.errors import StandgaleError


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error in ``group``, also of groups inside it; a defect of the program before known errors."""
    errors = list(_errors_in(group))
    return next((error for error in errors if not isinstance(error, StandgaleError)), errors[0])


def _errors_in(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    return [
        error
        for each in group.exceptions
        for error in (_errors_in(each) if isinstance(each, BaseExceptionGroup) else [each])
    ]

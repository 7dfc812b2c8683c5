"""Finds the rules that a job asks for: those of a name, or a text as it is."""

from __future__ import annotations

import re

from console.http.errors import InvalidConfigError
from console.jobs.config import JobConfig
from console.ports import RulesLibrary
from schemas.job_events import MAX_RULES, JobRules

FIELD = "config.symbolic_reasoning.rules_file"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
# A name has none of these; rules that do anything have one.
_SIGNS_OF_RULES = ("\n", "(", ":-")
_OWN_NAME = "job"


async def rules_of(config: JobConfig, library: RulesLibrary) -> JobRules | None:
    """Return the rules that ``config`` asks for; None: those of the model, if it has some. Raises InvalidConfigError.

    They are taken at the time of the request, so that all files of a job have the same rules.
    """
    asked = config.symbolic_reasoning
    if asked is None or not asked.enabled or asked.rules_file is None:
        return None
    given = asked.rules_file
    if not any(sign in given for sign in _SIGNS_OF_RULES):
        if _NAME.fullmatch(given) is None:
            raise InvalidConfigError.of(
                FIELD, "Must be the name of rules that are installed, or the text of rules; paths are not accepted"
            )
        text = await library.find(given)
        if text is None:
            raise InvalidConfigError.of(FIELD, f"There are no rules called {given!r}; the operator installs them")
        if not 0 < len(text) <= MAX_RULES:
            size = f"The rules {given!r} have {len(text):,} characters"
            raise InvalidConfigError.of(FIELD, f"{size}; jobs take 1 to {MAX_RULES:,}")
        rules = JobRules(name=given, text=text)
    else:
        rules = JobRules(name=_OWN_NAME, text=given)
    fault = await library.fault(rules.text)
    if fault is not None:
        raise InvalidConfigError.of(FIELD, fault)
    return rules

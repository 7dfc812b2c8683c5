"""Reads a rules file, bounded, and checks it: what is used has no errors."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from detectors.rules.language.checks import LONGEST_TEXT, Finding, check_clauses
from detectors.rules.language.program import Program, make_program
from detectors.rules.language.reader import read_clauses
from detectors.rules.language.terms import Place
from infra.regular_files import read_regular
from infra.texts import shortened
from schemas.errors import StandgaleError

LARGEST_BYTES = 256 << 10
MOST_CLAUSES = 1_000
_MOST_NAMED = 5


class RulesError(StandgaleError):
    """A rules file cannot be used; the text names its first errors by line."""

    code: ClassVar[str] = "INVALID_RULES"

    def __init__(self, text: str, findings: Sequence[Finding] = ()) -> None:
        super().__init__(text)
        self.findings = tuple(findings)


@dataclass(frozen=True, slots=True)
class RulesFile:
    """Holds rules that have no errors."""

    name: str
    """The name of the file, without its folder."""
    digest: str
    """SHA-256 of the file, hexadecimal."""
    program: Program
    warnings: tuple[Finding, ...] = ()


def read_rules(path: Path, labels: Sequence[str] | None = None) -> RulesFile:
    """Return the rules in the file at ``path``; ``labels``: those of the model, for warnings.

    Raises RulesError when the file cannot be read or has errors.
    """
    try:
        content = read_regular(path, LARGEST_BYTES)
    except OSError as error:
        raise RulesError(
            f"rules file {path} cannot be read ({error.strerror}); give the path of a Prolog file"
        ) from error
    return parse_rules(content, path.name, labels)


def parse_rules(content: bytes, name: str, labels: Sequence[str] | None = None) -> RulesFile:
    """Return the rules in ``content``. Raises RulesError when it is too large, no text, or has errors."""
    if len(content) > LARGEST_BYTES:
        raise RulesError(f"rules file {name} has {len(content):,} bytes, at most {LARGEST_BYTES:,} are taken")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise RulesError(f"rules file {name}, line {line}: is not UTF-8 text; save it as UTF-8") from error
    clauses, faults = read_clauses(text)
    findings = [Finding("error", fault.place, shortened(fault.text, LONGEST_TEXT)) for fault in faults]
    if len(clauses) > MOST_CLAUSES:
        place = clauses[MOST_CLAUSES].place
        findings.append(Finding("error", place, f"{len(clauses):,} clauses; at most {MOST_CLAUSES:,} are taken"))
    # What a clause that cannot be read defines is not known, so what calls it would be found wrong, too.
    findings += [] if faults else check_clauses(clauses, labels)
    findings.sort(key=_by_place)
    errors = [one for one in findings if one.level == "error"]
    if errors:
        named = "; ".join(map(str, errors[:_MOST_NAMED]))
        more = f"; and {len(errors) - _MOST_NAMED} more" if len(errors) > _MOST_NAMED else ""
        raise RulesError(f"rules file {name}: {named}{more}", findings)
    return RulesFile(name, digest_of(content), make_program(clauses), tuple(findings))


def text_digest(text: str) -> str:
    """Return the digest of rules that are a text."""
    return digest_of(text.encode())


def digest_of(content: bytes) -> str:
    """Return the SHA-256 of a rules file, hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _by_place(finding: Finding) -> tuple[Place, str]:
    return finding.place, finding.text

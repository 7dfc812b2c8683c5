"""Defines `standgale rules check | try`: explains the errors of a rules file, and shows what it does with a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.texts import counted
from standgale.commands import detect_options as options
from standgale.commands.context import Context, JsonOption, context_of, print_json
from standgale.commands.detect_output import OutputFiles, print_engine

if TYPE_CHECKING:
    from detectors.rules.language.checks import Finding
    from detectors.rules.rules_file import RulesFile
    from standgale.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Check and try rules that confirm, drop or relabel detections.")

_FileArgument = Annotated[Path, typer.Argument(help="A file of Prolog rules, see docs/rules.md.")]
_ModelOption = Annotated[Path | None, typer.Option(help="A model.yaml; the default is the model that ships.")]
_OutOption = Annotated[
    Path | None, typer.Option(help="Write the picture with boxes to this file (.jpg or .png); dropped ones are grey.")
]


def _labels(settings: Settings) -> list[str]:
    from detectors.card.card import default_card_path, read_card

    return [one.name for one in read_card(settings.detector.model or default_card_path()).classes]


@app.command()
def check(context: typer.Context, file: _FileArgument, model: _ModelOption = None, as_json: JsonOption = False) -> None:
    """Explain the errors of a rules file by line. Labels are compared with those of the model.

    Exits with 0 when the rules can be used, also with warnings, and with 1 when not.
    """
    from detectors.rules.rules_file import RulesError, read_rules

    here = context_of(context)
    labels = _labels(here.settings(detector__model=model))
    findings: tuple[Finding, ...]
    rules: RulesFile | None = None
    try:
        rules = read_rules(file, labels)
        findings, fault = rules.warnings, None
    except RulesError as error:
        findings, fault = error.findings, str(error)
    if as_json:
        print_json(_check_result(file, rules, findings, fault))
    else:
        _print_check(here, file, rules, findings, fault)
    raise typer.Exit(0 if rules is not None else 1)


def _check_result(
    file: Path, rules: RulesFile | None, findings: tuple[Finding, ...], fault: str | None
) -> dict[str, object]:
    return {
        "file": str(file),
        "usable": rules is not None,
        "sha256": None if rules is None else rules.digest,
        "rules": [] if rules is None else list(dict.fromkeys(rule.name for rule in rules.program.rules)),
        "problem": fault,
        "findings": [
            {"level": one.level, "line": one.place.line, "column": one.place.column, "text": one.text}
            for one in findings
        ],
    }


def _print_check(
    here: Context, file: Path, rules: RulesFile | None, findings: tuple[Finding, ...], fault: str | None
) -> None:
    for one in findings:
        text = f"{file}:{one.place.line}:{one.place.column}: {one.level}: {one.text}"
        here.out.print(text, markup=False, highlight=False, soft_wrap=True)
    if rules is not None:
        names = {rule.name for rule in rules.program.rules}
        here.out.print(f"{file}: {counted(len(names), 'rule')}, usable", markup=False, highlight=False, soft_wrap=True)
    elif not findings:
        here.out.print(f"{fault}", markup=False, highlight=False, soft_wrap=True)


@app.command("try")
def try_rules(
    context: typer.Context,
    file: _FileArgument,
    picture: Annotated[Path, typer.Argument(help="A JPEG, PNG, TIFF, GeoTIFF or WebP file.")],
    model: _ModelOption = None,
    confidence: options.ConfidenceOption = None,
    gsd: options.GsdOption = None,
    out: _OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the detections of a picture before and after the rules, and which rule decided.

    Exits with 0 when the rules gave rulings, with 1 when they could not, with 2 after an error.
    """
    from standgale.commands.rules_trial import print_trial, trial_result, try_on_picture, write_trial

    here = context_of(context)
    options.check_model_file(model, picture)
    settings = here.settings(detector__model=model)
    wanted = options.Wanted(confidence=confidence, gsd=gsd)
    wanted.checked()
    files = OutputFiles(out, None)
    files.check(picture)
    trial = try_on_picture(here, settings, file, picture, wanted)
    if out is not None:
        write_trial(files, trial)
    if as_json:
        print_json(trial_result(picture, trial))
    else:
        print_engine(here, trial.card, *trial.engine)
        print_trial(here, trial, out)
    raise typer.Exit(0 if trial.rulings.problem is None else 1)

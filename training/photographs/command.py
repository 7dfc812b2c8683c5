"""Defines the options of training.evaluate for photographs, and runs it with them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from pydantic import ValidationError

from schemas.events import DetectOptions
from training.photographs.evaluate import PhotographEvaluation, PhotographSettings, evaluate_photographs
from training.photographs.folder import LABELLED, PhotographError, Photographs, read_photographs
from training.photographs.recording import record_photographs, replace_tables
from training.photographs.report import tables, write_json
from training.progress import progress_bar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of photographs to a command line that has --card, --engine and --record."""
    real = parser.add_argument_group("photographs")
    real.add_argument("--photographs", type=Path, metavar="FOLDER", help="measure on these instead of drawn scenes")
    real.add_argument("--split", choices=LABELLED, default="test")
    real.add_argument("--set", action="append", default=[], metavar="NAME", help="measure on this set; default all")
    real.add_argument("--beside", type=Path, action="append", default=[], metavar="CARD", help="measure this one too")
    real.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="differ from the card")
    real.add_argument("--readme", type=Path, help="replace the tables in this file")
    real.add_argument("--json", type=Path, help="write the evaluations to this file")
    real.add_argument("--markdown", type=Path, help="write the tables to this file")


def options_of(texts: list[str]) -> DetectOptions:
    """Return the detection options that NAME=VALUE texts name, values as JSON: scales=[1,0.5].

    Raises PhotographError when a name or value is wrong.
    """
    given = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in DetectOptions.model_fields:
            known = ", ".join(DetectOptions.model_fields)
            raise PhotographError(f"--option {text}: unknown; give one of {known}")
        try:
            given[name] = json.loads(value)
        except ValueError as error:
            raise PhotographError(
                f"--option {text}: the value is no JSON ({error}); write it like 0.5 or [1,0.5]"
            ) from error
    try:
        return DetectOptions.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise PhotographError(f"--option {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def evaluate_folder(arguments: argparse.Namespace) -> None:
    """Measure the card, and those beside it, on the photographs; print the tables and write the files asked for."""
    photographs = read_photographs(arguments.photographs)
    if arguments.set:
        photographs = photographs.only(arguments.set)
    options = options_of(arguments.option)
    evaluations = [
        _evaluate(PhotographSettings(card, arguments.split, arguments.engine, options), photographs)
        for card in (arguments.card, *arguments.beside)
    ]
    text = tables(evaluations)
    print(text)
    if arguments.json is not None:
        write_json(arguments.json, evaluations)
    if arguments.markdown is not None:
        arguments.markdown.write_text(text, encoding="utf-8")
    if arguments.readme is not None:
        replace_tables(arguments.readme, text)
    if arguments.record:
        record_photographs(arguments.card, evaluations[0])


def _evaluate(settings: PhotographSettings, photographs: Photographs) -> PhotographEvaluation:
    pictures = len(photographs.of(settings.split)) + len(photographs.of_or_none("unlabelled"))
    with progress_bar(pictures, "picture") as show:
        return evaluate_photographs(settings, photographs, show)

"""Runs the choice of a confidence per class: python -m training.photographs.choose FOLDER --card model.yaml."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from detectors.card.card import default_card_path
from detectors.model.loading import LoadRequest, load_model
from detectors.model.predict import Predictor
from training.photographs.command import options_of
from training.photographs.evaluate import PictureDetector
from training.photographs.folder import read_photographs
from training.photographs.recording import record_choices
from training.photographs.report import JsonValue, without_nan
from training.photographs.thresholds import Goal, choose_all, table


def main() -> None:
    """Run the command line: python -m training.photographs.choose FOLDER --card model.yaml."""
    default = Goal()
    parser = argparse.ArgumentParser(description="Choose a confidence per class on validation and unlabelled pictures.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--card", type=Path, default=default_card_path())
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--precision", type=float, default=default.precision)
    parser.add_argument("--false-per-megapixel", type=float, default=default.false_per_megapixel)
    parser.add_argument(
        "--possible", nargs="*", default=["vehicle"], help="classes that may be on unlabelled pictures; default vehicle"
    )
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="differ from the card")
    parser.add_argument("--record", action="store_true", help="write the confidences into the card")
    parser.add_argument("--tested", nargs="*", default=["vehicle"], help="classes that are tested on photographs")
    parser.add_argument("--json", type=Path, help="write the choices to this file")
    arguments = parser.parse_args()
    photographs = read_photographs(arguments.folder)
    with Predictor(load_model(LoadRequest(arguments.card, engine=arguments.engine))) as predictor:
        detector = PictureDetector(predictor, photographs.classes, options_of(arguments.option))
        goal = Goal(arguments.precision, arguments.false_per_megapixel)
        choices = choose_all(detector, photographs, arguments.possible, goal)
    print(table(choices))
    if arguments.record:
        record_choices(arguments.card, choices, arguments.tested)
    if arguments.json is not None:
        content: JsonValue = {name: asdict(one) for name, one in choices.items()}
        arguments.json.write_text(json.dumps(without_nan(content), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Runs `standgale detect` over the pictures of a folder or the frames of a video, one after the other."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tqdm import tqdm

from detectors.model.notices import nothing_found
from detectors.model.options import Resolved
from detectors.model.predict import PictureResult, Predictor
from detectors.tiling.sources import ArraySource
from infra.errors import SettingsError
from infra.process.ending import exit_at_signals
from schemas.errors import StandgaleError
from standgale.commands.context import Context, print_json
from standgale.commands.detect_options import Wanted
from standgale.commands.detect_output import (
    OutputFileError,
    OutputFiles,
    metadata_warnings,
    notices_of,
    print_engine,
    result_of,
    rows_of,
    write_files,
)
from standgale.commands.detect_pictures import checked_gsd, for_picture
from standgale.picture_models import load_for_pictures
from standgale.pictures import Picture, open_picture
from standgale.videos import is_video, open_video

if TYPE_CHECKING:
    from schemas.events import DetectOptions
    from standgale.settings import Settings

# So many skipped files are named again at the end.
_MOST_NAMED = 5
# The longest name of a file is 255 bytes on most disks.
_LONGEST_STEM_BYTES = 240


@dataclass(frozen=True, slots=True)
class ManyRequest:
    """Says what to do with each picture."""

    here: Context
    settings: Settings
    asked: DetectOptions
    wanted: Wanted
    out: Path | None
    """The folder for drawn pictures; None draws none"""
    as_json: bool
    every: int
    """Of a video only every n-th frame"""


@dataclass(slots=True)
class _Run:
    """Reports the pictures of one call, and counts what was done."""

    request: ManyRequest
    predictor: Predictor
    bar: tqdm[NoReturn]
    done: int = 0
    found: Counter[str] = field(default_factory=Counter)
    said: set[str] = field(default_factory=set)
    last: Resolved | None = None
    """The options of the last picture"""

    def detect(self, path: Path, shown: Picture, drawn: Path | None, about: dict[str, object], name: str) -> None:
        """Detect in one picture, draw it to ``drawn``, and print a line; ``about`` is added to its JSON."""
        files = OutputFiles(drawn, None)
        gsd_m = checked_gsd(shown, path, self.request.wanted, files)
        found = self.predictor.find(shown.source, for_picture(self.request.asked, shown), gsd_m)
        card = self.predictor.model.card
        write_files(files, shown, found, card)
        rows = rows_of(found, card, None)
        counts = Counter(str(row["label"]) for row in rows)
        # Before the line is printed, so that a signal right after it finds the picture counted.
        self.done += 1
        self.last = found.options
        self.found.update(counts)
        with tqdm.external_write_mode():
            if self.request.as_json:
                print_json({**result_of(path, shown, found, card, rows), **about})
            else:
                text = f"{name}: {_counted(counts) or 'nothing found'}"
                self.request.here.out.print(text, markup=False, highlight=False, soft_wrap=True)
        if not self.request.as_json:
            self._warn(name, shown, found)
        self.bar.update()

    def _warn(self, name: str, shown: Picture, found: PictureResult) -> None:
        """Print each kind of warning once: numbers differ between pictures that are alike, the advice does not."""
        for text in (*metadata_warnings(shown), *notices_of(self.predictor.model.card, shown, found)):
            kind = text.rsplit(";", 1)[-1]
            if kind not in self.said:
                self.said.add(kind)
                self.note(f"warning, {name}: {text}")

    def note_nothing(self) -> None:
        """Print once which scores would have counted, where no picture has any detection."""
        if self.last is not None and not self.found and not self.request.as_json:
            self.note(nothing_found(self.predictor.model.card, self.last))

    def note(self, text: str) -> None:
        """Print ``text`` for people, without breaking the progress bar."""
        with tqdm.external_write_mode():
            self.request.here.notes.print(text, markup=False, highlight=False, soft_wrap=True)

    def summary(self, what: str) -> str:
        """Return one line about all that was done."""
        drawn = "" if self.request.out is None or not self.done else f"; drawn into {self.request.out}"
        return f"{self.done} {what}: {_counted(self.found) or 'nothing found'}{drawn}"


def detect_in_folder(request: ManyRequest, folder: Path) -> bool:
    """Detect in each picture of ``folder`` (not of folders in it); return whether all its files were read.

    A file that cannot be read is named and skipped. Raises SettingsError when there is none, or none can be read.
    """
    if request.every != 1:
        raise SettingsError(f"--every {request.every}: is for videos; leave it out for a folder")
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    # What cannot be looked at, or is a pipe or a device, is named and skipped like a file that cannot be read.
    paths = [path for path in entries if not os.path.isdir(path)]  # noqa: PTH112 (Path.is_dir raises PermissionError)
    folders = [path.name for path in entries if os.path.isdir(path)]  # noqa: PTH112 (as above)
    inside = f" (folders in it are not searched: {_named(folders)})" if folders else ""
    if not paths:
        raise SettingsError(f"{folder}: has no files; give a folder with pictures{inside}")
    names = _drawn_names(paths)
    skipped: list[str] = []
    with _running(request, len(paths), "pictures") as run:
        for path in paths:
            drawn = None if request.out is None else request.out / names[path]
            try:
                if is_video(path):
                    raise SettingsError(f"a video is read by itself: standgale detect {path}")
                with open_picture(path, request.settings.detector.max_pixels) as shown:
                    run.detect(path, shown, drawn, {}, path.name)
            except OutputFileError:
                raise
            except (StandgaleError, OSError) as error:
                if isinstance(error, OSError) and error.filename != str(path):
                    raise
                # Another program may take a file away between two looks at it.
                reason = f"cannot be read ({error.strerror})" if isinstance(error, OSError) else str(error)
                skipped.append(path.name)
                run.note(f"skipped {path.name}: {reason.removeprefix(f'{path}: ')}")
                run.bar.update()
    if not run.done:
        raise SettingsError(f"{folder}: none of its {len(paths)} files could be read; the lines above say why{inside}")
    run.note(run.summary("pictures"))
    run.note_nothing()
    if skipped:
        run.note(f"{len(skipped)} of {len(paths)} files skipped: {_named(skipped)}")
    return not skipped


def detect_in_video(request: ManyRequest, path: Path) -> bool:
    """Detect in the frames of the video at ``path``. Raises ImageCorruptError, after the last one, if it ends early."""
    with open_video(path, request.settings.detector.max_pixels) as video:
        total = None if video.frames is None else -(-video.frames // request.every)
        with _running(request, total, "frames") as run:
            try:
                for frame in video.read(request.every):
                    height, width = frame.image.shape[:2]
                    shown = Picture(width, height, ArraySource(frame.image), None, image=frame.image)
                    drawn = None if request.out is None else request.out / f"{path.stem}-{frame.number:06d}.jpg"
                    about: dict[str, object] = {"frame": frame.number, "time_s": round(frame.time_s, 3)}
                    run.detect(path, shown, drawn, about, f"{path.name} frame {frame.number}")
            finally:
                if run.done:
                    run.note(run.summary("frames"))
                    run.note_nothing()
    return True


@contextmanager
def _running(request: ManyRequest, total: int | None, what: str) -> Iterator[_Run]:
    """Open the model and the progress bar; a signal ends the block with one line about what is done."""
    if request.out is not None:
        try:
            request.out.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputFileError(f"--out {request.out}: cannot be made ({error.strerror}); give a folder") from error
    with exit_at_signals(), Predictor(load_for_pictures(request.settings)) as predictor:
        card, engine = predictor.model.card, predictor.model.engine
        request.wanted.check_card(card)
        if not request.as_json:
            print_engine(request.here, card, engine.name, engine.reason)
        # Without a terminal there is no bar.
        with tqdm(total=total, desc=what, unit="", disable=None, leave=False, dynamic_ncols=True) as bar:
            run = _Run(request, predictor, bar)
            try:
                yield run
            except SystemExit:
                of = "" if total is None else f" of {total}"
                run.note(f"stopped after {run.done}{of} {what}; what is done is kept")
                raise


def _drawn_names(paths: list[Path]) -> dict[Path, str]:
    """Return for each path the name of its drawn picture: its stem where no other picture would get the same name."""
    stems = Counter(path.stem for path in paths)
    # The stem of one may be the whole name of another: a.jpg.png beside a.jpg.
    whole = {path.name for path in paths}
    return {path: _drawn_name(path.name if stems[path.stem] > 1 or path.stem in whole else path.stem) for path in paths}


def _drawn_name(stem: str) -> str:
    """Return ``stem`` with the suffix of a drawn picture; cut where that would be too long, with a mark of its own."""
    encoded = os.fsencode(stem)
    if len(encoded) <= _LONGEST_STEM_BYTES:
        return f"{stem}.jpg"
    mark = sha256(encoded).hexdigest()[:12]
    return f"{os.fsdecode(encoded[: _LONGEST_STEM_BYTES - len(mark)])}-{mark}.jpg"


def _named(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"{', '.join(names[:_MOST_NAMED])}{more}"


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {label}" for label, count in counts.most_common())

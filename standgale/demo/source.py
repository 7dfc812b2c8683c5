"""Checks the pictures or the video of `demo --source` before anything starts, and names the files that are left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.errors import ImageCorruptError, SettingsError
from infra.images.foreign import refusal_of_no_video
from infra.regular_files import open_regular
from infra.texts import counted
from ingest.images.check import ImageError, ImageLimits, inspect_image
from ingest.settings import GatewaySettings
from standgale.videos import is_video, open_video

PICTURES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp")
# Formats are recognised by these.
_FIRST_BYTES = 4_096
# More files than a demonstration sends are not looked at; a folder may have millions.
_MOST_NAMED = 10


@dataclass(frozen=True, slots=True)
class Source:
    """Holds what is sent: pictures that the gateway accepts, or one video."""

    pictures: tuple[Path, ...] = ()
    video: Path | None = None
    left_out: tuple[str, ...] = ()
    """One line for each file that is not sent: its name and the reason."""

    def notes(self) -> list[str]:
        """Return the lines for people about files that are left out."""
        more = len(self.left_out) - _MOST_NAMED
        return [
            *self.left_out[:_MOST_NAMED],
            *([f"and {counted(more, 'more file')} {'is' if more == 1 else 'are'} left out"] if more > 0 else []),
        ]


def check_source(path: Path, most: int, gateway: GatewaySettings) -> Source:
    """Return the first ``most`` pictures of the folder ``path`` that the gateway accepts, or the picture or video.

    Raises SettingsError if there is nothing to send, with the reason for each file.
    """
    try:
        if path.is_dir():
            return _folder(path, sorted(path.iterdir()), most, gateway)
        if not path.exists():
            raise SettingsError(f"--source {path}: no such folder or video; give a folder of pictures or a video file")
        if path.suffix.lower() in PICTURES:
            return _folder(path, [path], most, gateway)
        if (known := _foreign(path)) is not None:
            raise SettingsError(f"--source {path}: {known}")
    except OSError as error:
        raise SettingsError(f"--source {path}: cannot be read ({error.strerror}); change its permissions") from error
    _check_video(path, gateway)
    return Source(video=path)


def _folder(path: Path, files: Sequence[Path], most: int, gateway: GatewaySettings) -> Source:
    good: list[Path] = []
    left_out: list[str] = []
    for file in files:
        if len(good) >= most:
            break
        reason = _why_not(file, gateway)
        if reason is None:
            good.append(file)
        elif not file.name.startswith("."):
            left_out.append(f"{file.name} is left out: {reason}")
    if good:
        return Source(tuple(good), None, tuple(left_out))
    reasons = "".join(f"\n- {line}" for line in Source(left_out=tuple(left_out)).notes())
    raise SettingsError(
        f"--source {path}: no picture that can be sent in it; it takes files like {', '.join(PICTURES)}{reasons}"
    )


def _why_not(file: Path, gateway: GatewaySettings) -> str | None:
    """Return why the gateway would not accept ``file``; None if it would."""
    if file.is_dir():
        return "a folder; its pictures are not sent"
    if is_video(file):
        return f"a video is sent by itself: --source {file}"
    try:
        if file.suffix.lower() not in PICTURES:
            known = _foreign(file)
            return known or f"no picture by its name; pictures end with {', '.join(PICTURES)}"
        if not file.is_file():
            return "not a file"
        size = file.stat().st_size
        if size > gateway.max_image_bytes:
            return f"{size} bytes, more than gateway.max_image_bytes ({gateway.max_image_bytes}) allows"
        inspect_image(file.read_bytes(), _limits(gateway))
    except ImageError as error:
        return str(error)
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    return None


def _foreign(file: Path) -> str | None:
    """Return what a file is that is in another format than pictures and videos, and what to do; None: unknown."""
    if not file.is_file():
        return None
    with open_regular(file) as opened:
        return refusal_of_no_video(opened.read(_FIRST_BYTES))


def _limits(gateway: GatewaySettings) -> ImageLimits:
    return ImageLimits(
        max_image_bytes=gateway.max_image_bytes,
        min_side_px=gateway.min_side_px,
        max_side_px=gateway.max_side_px,
        max_pixels=gateway.max_pixels,
    )


def _check_video(path: Path, gateway: GatewaySettings) -> None:
    try:
        with open_video(path, gateway.max_pixels) as video:
            next(iter(video.read(1)))
    except (SettingsError, ImageCorruptError) as error:
        raise SettingsError(f"--source: {error}") from error

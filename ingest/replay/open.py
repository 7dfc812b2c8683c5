"""Opens the source that an address names."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from zipfile import is_zipfile

from infra.errors import SettingsError
from infra.extras import install_extra
from ingest.replay.port import Source
from ingest.replay.settings import ReplayLakeFsSettings, ReplayS3Settings, ReplaySettings
from ingest.replay.sources.folder import FolderSource
from ingest.replay.sources.lakefs import LakeFsLister
from ingest.replay.sources.objects import ObjectSource
from ingest.replay.sources.tar_archive import TarSource
from ingest.replay.sources.zip_archive import ZipSource
from ingest.settings import VideoSettings

_TAR_SUFFIXES = (".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tzst")
_FORMS = "a folder, a zip or tar archive, a video file, s3://bucket/prefix, or lakefs://repository/ref/path"


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """Holds the settings that sources need, and what the command line says about a video."""

    replay: ReplaySettings
    s3: ReplayS3Settings
    lakefs: ReplayLakeFsSettings
    video: VideoSettings
    max_image_bytes: int
    every: int = 1
    """video: the first frame, and then each one after so many"""
    start: datetime | None = None
    """video: when its first frame was taken"""


def open_source(address: str, options: SourceOptions) -> Source:
    """Return the source at ``address``. Raises SettingsError, SourceError, or OSError for a path."""
    scheme, colon, rest = address.partition("://")
    if colon and scheme in ("s3", "lakefs"):
        return _open_s3(rest, options) if scheme == "s3" else _open_lakefs(rest, options)
    if colon:
        raise SettingsError(f"{scheme[:20]!a} is no scheme of a source; give {_FORMS}")
    path = Path(address)
    if path.is_dir():
        return FolderSource(path, options.replay.suffixes, options.max_image_bytes)
    if not path.exists():
        raise SettingsError(f"{address}: no such file or folder; give {_FORMS}")
    if not path.is_file():
        raise SettingsError(f"{address} is no regular file; give {_FORMS}")
    return _open_file(path, options)


def _open_file(path: Path, options: SourceOptions) -> Source:
    name = path.name.lower()
    if name.endswith(".zip") or (not name.endswith(_TAR_SUFFIXES) and is_zipfile(path)):
        return ZipSource(path, options.replay, options.max_image_bytes)
    if name.endswith(_TAR_SUFFIXES) or _is_tar(path):
        return TarSource(path, options.replay, options.max_image_bytes)
    if name.endswith(options.replay.suffixes):
        raise SettingsError(f"{path} is a picture; give the folder that it is in")
    return _open_video(path, options)


def _is_tar(path: Path) -> bool:
    try:
        return tarfile.is_tarfile(path)
    except (OSError, EOFError):
        return False


def _open_video(path: Path, options: SourceOptions) -> Source:
    try:
        from ingest.replay.sources.video import VideoFileSource  # noqa: PLC0415 (an extra)
        from ingest.video.options import Selection, VideoSource  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"replaying a video needs the library {error.name!r}, which is not installed; {install_extra('video')}"
        ) from error
    selection = Selection("every" if options.every == 1 else "nth", options.every)
    video = VideoSource(path.name, str(path.absolute()), selection, start=options.start)
    return VideoFileSource(path, video, options.video)


def _open_s3(rest: str, options: SourceOptions) -> Source:
    bucket, _, prefix = rest.partition("/")
    if not bucket:
        raise SettingsError("s3:// names no bucket; give s3://bucket/prefix")
    try:
        from ingest.replay.sources.s3 import S3Lister  # noqa: PLC0415 (an extra)
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"replaying from S3 needs the library {error.name!r}, which is not installed; {install_extra('s3')}"
        ) from error
    lister = S3Lister(bucket, prefix, options.s3, options.replay.read_timeout_s)
    return ObjectSource(lister, options.replay.suffixes, options.max_image_bytes)


def _open_lakefs(rest: str, options: SourceOptions) -> Source:
    repository, _, below = rest.partition("/")
    ref, _, prefix = below.partition("/")
    if not repository or not ref:
        raise SettingsError(f"lakefs://{rest} names no repository and ref; give lakefs://repository/ref/path")
    lister = LakeFsLister(repository, ref, prefix, options.lakefs, options.replay.read_timeout_s)
    return ObjectSource(lister, options.replay.suffixes, options.max_image_bytes)

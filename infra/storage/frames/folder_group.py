"""Writes a group of frames into the folder store durably, so that all of them wait for the disk together.

What is durable does not depend on the file system's order of writes: each file is synced itself before any of them gets
its name, and each folder is synced itself before a caller hears of success. So after a power cut a name never points to
half a picture, and a frame that was reported as stored is there: on ext4, XFS and Btrfs, and on overlayfs, which hands
both syncs to the file system below. What is shared is the time: the kernel begins to write all files before the first
sync waits, and that sync's commit of the journal has the records of the others, too (ext4 has one open transaction, XFS
one log); theirs find them committed. ``syncfs`` would be one call for all, but it also writes what other programs have
left unwritten, and waits for it.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from uuid import uuid4

from infra.errors import StoreUnavailableError
from infra.storage.durable_files import begin_sync, locked_folder, sync_file, sync_folder, write_all
from infra.storage.frames.disk_space import DiskSpace

# Detectors may run as another user.
_MODE = 0o644
# Another disk, or a file system without hard links.
_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK)


@dataclass(eq=False, slots=True)
class FrameFile:
    """Is one frame to be stored at ``relative`` (``ab/<sha256>.<ext>``); ``error`` says why it is not."""

    relative: str
    data: bytes | Path
    """Its content, or a file on this machine that has it"""
    size_bytes: int
    error: Exception | None = None

    @property
    def new_bytes(self) -> int:
        """How much space it needs for certain: a file is copied only from another disk."""
        return 0 if isinstance(self.data, Path) else self.size_bytes


class _OwnError:
    """Keeps an error of the disk in its block as that of one frame: it does not stop the others."""

    __slots__ = ("_frame",)

    def __init__(self, frame: FrameFile) -> None:
        self._frame = frame

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        if isinstance(error, OSError | StoreUnavailableError):
            self._frame.error = error
            return True
        return False


@dataclass(eq=False, slots=True)
class _OpenFile:
    """Is the open file of a frame."""

    frame: FrameFile
    path: str
    descriptor: int
    named: bool = False
    """Whether it has the name of its content"""

    def sync(self) -> None:
        if self.frame.error is None:
            with _OwnError(self.frame):
                sync_file(self.descriptor)


@dataclass(slots=True)
class _Folder:
    """Is a locked folder, and the frames whose names in it are new or renewed."""

    descriptor: int
    frames: list[FrameFile]

    def sync(self) -> None:
        if any(frame.error is None for frame in self.frames):
            try:
                sync_file(self.descriptor)
            except OSError as error:
                _fail(self.frames, error)


class FrameGroups:
    """Stores groups of frames below ``root``; each frame has an error of its own. Several threads may use it."""

    def __init__(self, root: Path, unfinished: Path, space: DiskSpace) -> None:
        self._root = str(root)
        self._unfinished = str(unfinished)
        self._space = space
        # Random once, and not per file: each question to the kernel hands the interpreter to another thread.
        self._token = uuid4().hex
        self._numbers = count()

    def store(self, frames: Sequence[FrameFile], *, wait: bool) -> list[FrameFile]:
        """Store ``frames`` or set their errors; return those that were left out, whose folder another has locked.

        With ``wait`` it waits for such locks, and leaves none out.
        """
        left: list[FrameFile] = []
        known, new = self._sort(frames)
        if known:
            new += self._renew(known, left, wait)
        if new:
            self._write(self._with_space(new), left, wait)
        return left

    def _sort(self, frames: Sequence[FrameFile]) -> tuple[list[FrameFile], list[FrameFile]]:
        """Return the frames that seem to be stored already, and the new ones: most, for which nothing is locked."""
        known: list[FrameFile] = []
        new: list[FrameFile] = []
        for frame in frames:
            with _OwnError(frame):
                try:
                    same = os.lstat(self._target(frame)).st_size == frame.size_bytes
                except FileNotFoundError:
                    same = False
                (known if same else new).append(frame)
        return known, new

    def _renew(self, frames: Sequence[FrameFile], left: list[FrameFile], wait: bool) -> list[FrameFile]:
        """Give the files of ``frames`` the present time, durably; return the frames whose files are gone meanwhile.

        So the removal of old files, which reads their time under the same lock, does not remove them.
        """
        gone: list[FrameFile] = []
        files: list[_OpenFile] = []
        try:
            with self._locked(frames, left, wait) as folders:
                for frame in (frame for folder in folders for frame in folder.frames):
                    with _OwnError(frame):
                        try:
                            self._renew_one(frame, files)
                        except FileNotFoundError:
                            gone.append(frame)
                for file in files:
                    file.sync()
                # The writer of a file may have died before the name was on disk.
                for folder in folders:
                    folder.sync()
        finally:
            for file in files:
                os.close(file.descriptor)
        return gone

    def _renew_one(self, frame: FrameFile, files: list[_OpenFile]) -> None:
        path = self._target(frame)
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        files.append(_OpenFile(frame, path, descriptor))
        if os.fstat(descriptor).st_size != frame.size_bytes:
            raise FileNotFoundError
        os.utime(descriptor)

    def _with_space(self, frames: list[FrameFile]) -> list[FrameFile]:
        """Return the frames for which there is space, and set the errors of the others."""
        try:
            self._space.require_space(sum(frame.new_bytes for frame in frames))
        except (StoreUnavailableError, OSError):
            fitting: list[FrameFile] = []
            size_bytes = 0
            for frame in frames:
                with _OwnError(frame):
                    self._space.require_space(size_bytes + frame.new_bytes)
                    fitting.append(frame)
                    size_bytes += frame.new_bytes
            return fitting
        return frames

    def _write(self, frames: Sequence[FrameFile], left: list[FrameFile], wait: bool) -> None:
        files: dict[FrameFile, _OpenFile] = {}
        try:
            for frame in frames:
                with _OwnError(frame):
                    self._begin(frame, files)
            for file in files.values():
                # The content must be on disk before the name is: after a power cut no name points to half a picture.
                file.sync()
            with self._locked([frame for frame in files if frame.error is None], left, wait) as folders:
                for folder in folders:
                    for frame in folder.frames:
                        with _OwnError(frame):
                            # Path.rename would make two objects per frame.
                            os.rename(files[frame].path, self._target(frame))  # noqa: PTH104
                            files[frame].named = True
                for folder in folders:
                    folder.sync()
        finally:
            for file in files.values():
                os.close(file.descriptor)
                if not file.named:
                    # What cannot be removed now is swept when the store is opened.
                    with suppress(OSError):
                        Path(file.path).unlink()
        self._space.add_used(sum(file.frame.size_bytes for file in files.values() if file.named))

    def _begin(self, frame: FrameFile, files: dict[FrameFile, _OpenFile]) -> None:
        """Write the content into a new file, and let the kernel begin to write it to disk."""
        path = f"{self._unfinished}/{frame.relative[3:]}.{self._token}.{next(self._numbers)}"
        if isinstance(frame.data, Path):
            descriptor = self._take(frame.data, Path(path), frame.size_bytes)
            files[frame] = _OpenFile(frame, path, descriptor)
        else:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
            files[frame] = _OpenFile(frame, path, descriptor)
            write_all(descriptor, frame.data)
        begin_sync(descriptor)

    def _take(self, source: Path, unfinished: Path, size_bytes: int) -> int:
        """Give the file ``source`` a second name, or copy it from another disk; return it open."""
        try:
            try:
                unfinished.hardlink_to(source)
                os.utime(unfinished)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                self._space.require_space(size_bytes)
                shutil.copyfile(source, unfinished)
            unfinished.chmod(_MODE)
            return os.open(unfinished, os.O_RDONLY | os.O_CLOEXEC)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise

    @contextmanager
    def _locked(self, frames: Sequence[FrameFile], left: list[FrameFile], wait: bool) -> Iterator[list[_Folder]]:
        """Hold shared locks on the folders of ``frames``, made if need be; yield those that nobody else has locked."""
        inside: dict[str, list[FrameFile]] = {}
        for frame in frames:
            inside.setdefault(frame.relative[:2], []).append(frame)
        with ExitStack() as locks:

            def lock(name: str) -> None:
                try:
                    held = locked_folder(f"{self._root}/{name}", exclusive=False, wait=wait)
                    folders.append(_Folder(locks.enter_context(held), inside[name]))
                except BlockingIOError:
                    left.extend(inside[name])
                except FileNotFoundError:
                    missing.append(name)
                except OSError as error:
                    _fail(inside[name], error)

            folders: list[_Folder] = []
            missing: list[str] = []
            for name in inside:
                lock(name)
            if missing:
                made, missing = missing, []
                self._make([(name, inside[name]) for name in made])
                for name in made:
                    if inside[name][0].error is None:
                        lock(name)
                for name in missing:
                    _fail(inside[name], FileNotFoundError(errno.ENOENT, "the folder was removed", name))
            yield folders

    def _make(self, missing: Sequence[tuple[str, Sequence[FrameFile]]]) -> None:
        """Create folders durably; those that cannot be made fail their frames."""
        for name, frames in missing:
            try:
                Path(self._root, name).mkdir(exist_ok=True)
            except OSError as error:
                _fail(frames, error)
        try:
            sync_folder(Path(self._root))
        except OSError as error:
            for _, frames in missing:
                _fail(frames, error)

    def _target(self, frame: FrameFile) -> str:
        return f"{self._root}/{frame.relative}"


def _fail(frames: Sequence[FrameFile], error: OSError) -> None:
    for frame in frames:
        frame.error = frame.error or error

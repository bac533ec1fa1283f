"""Why FFmpeg could not open or read a source, in a sentence that says what to do."""

import errno
import re
import socket
import ssl
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import av

from engines.errors import ConfigError
from pipeline.settings.redact import redact, redact_in
from pipeline.settings.schema import StreamSettings
from pipeline.sources.address import address_for_ffmpeg, local_path, names_user, path_of, scheme_of

# Others may listen at all of this host's.
WITH_HOST: Final = ("ftp", "sftp", "http", "https", "rtmp", "rtmps", "rtsp", "rtsps")
TLS_PORTS: Final = {"https": 443, "rtsps": 322, "rtmps": 443, "tls": 443}
ENCODE: Final = (
    "characters such as @ : / ? # in the user name or the password must be percent-encoded (@ is %40, : %3A, / %2F, "
    "? %3F, # %23), or given apart as user and password of the stream"
)
_PLACE: Final = re.compile(r"(\[[0-9A-Fa-f:.%\w]+\]|[\w.-]*)(:\d*)?")  # host and port
UNREACHABLE: Final = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN)


def opening_cause(error: Exception, settings: StreamSettings) -> str:
    """Why a source could not be opened, without any secret of its address."""
    path = local_path(settings.source)
    cause = _file_cause(error, path, settings) if path is not None else _address_cause(error, settings)
    if cause is not None:
        return cause
    # The whole text of an FFmpegError has the address in it, its strerror should not.
    text = (error.strerror if isinstance(error, av.FFmpegError) else None) or str(error)
    return f"cannot be opened: {hide(text, settings)}"


def check_address(settings: StreamSettings) -> None:
    """Refuse an address whose user name or password cannot be told from the rest of it.

    Raises:
        ConfigError: with the key, and what to do.
    """
    source, has_secret = settings.source, settings.user is not None or settings.password is not None
    shown = f"stream {settings.name!r}: source is {redact(source)!r}"
    if has_secret and "://" not in source:
        raise ConfigError(f"{shown}, but must be an address where user and password are there")
    if has_secret and names_user(source):
        raise ConfigError(f"{shown}, which has a user name in it: give it there, or as user and password, not both")
    if local_path(source) is None and "@" in (rest := source.partition("://")[2]):
        authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
        # The password was cut at its / ? or #, and the rest of it taken for the path.
        if "@" not in authority and _PLACE.fullmatch(authority) is None:
            raise ConfigError(f"{shown}, which cannot be understood: {ENCODE}")
    if "://" in source and local_path(source) is None and (fault := _fault_of_place(source)):
        raise ConfigError(f"{shown}, but {fault}")


def _fault_of_place(source: str) -> str | None:
    """What is wrong with the host or the port of an address."""
    try:
        parts = urlsplit(source)
        host, port = parts.hostname, parts.port
    except ValueError:
        return f"must have a host, and a port from 1 to 65535 or none; {ENCODE}"
    if port == 0:
        return "must have a port from 1 to 65535, or none"
    return None if host or scheme_of(source) not in WITH_HOST else "must have a host after the ://"


def hide(text: str, settings: StreamSettings) -> str:
    """A text of another library without the secrets of a stream's address."""
    text = redact_in(text, address_for_ffmpeg(settings), settings.source)
    return text.replace(settings.password, "***") if settings.password else text


def _file_cause(error: Exception, path: Path, settings: StreamSettings) -> str | None:
    match error:
        case av.FileNotFoundError() | FileNotFoundError():
            return "does not exist"
        case av.IsADirectoryError():
            return "is a folder, not a video"
        case av.PermissionError() | PermissionError():
            return "cannot be read: this user has no permission"
        case av.InvalidDataError():
            if path.is_file() and not path.stat().st_size:
                return "is empty"
            return _playlist_cause(settings) or "is not a video"
        case av.ArgumentError():
            return "is no video that tells its own size and format: convert it to MP4 or MKV"
        case av.EOFError():
            return "is not whole: it ends before its first picture"
        case av.PatchWelcomeError():
            return "is of a kind that this FFmpeg cannot read: convert it to MP4 or MKV"
    return None


def _address_cause(error: Exception, settings: StreamSettings) -> str | None:
    place = _place(settings.source)
    rtsp = settings.source.lower().startswith("rtsp")
    match error:
        case av.InvalidDataError():
            return _no_video(settings)
        case av.HTTPUnauthorizedError():
            given = settings.user is not None or names_user(settings.source)
            what = "refuses the user name or the password" if given else "wants a user name and a password"
            return f"{what} (401 Unauthorized): set user and password of the stream"
        case av.HTTPForbiddenError():
            return "is not allowed to this user (403 Forbidden): allow it on the server, or set another user"
        case av.HTTPNotFoundError():
            return f"there is no such {'stream' if rtsp else 'file'} (404 Not Found): check the path of the address"
        case av.HTTPTooManyRequestsError():
            return "is asked too often (429 Too Many Requests): raise reconnect_min_s, or use fewer streams of it"
        case av.HTTPBadRequestError():
            return "the server does not understand the request (400 Bad Request): check the path of the address"
        case av.HTTPOtherClientError() if rtsp:
            other = "udp" if settings.transport == "tcp" else "tcp"
            return f'does not send by {settings.transport} or not to this client: set transport = "{other}"'
        case av.HTTPOtherClientError():
            return "the server refuses the request (4xx): check the path of the address, and the server's log"
        case av.HTTPServerError():
            return "the server has a fault of its own (5xx): look at its log, or start it again"
        case av.ConnectionRefusedError():
            return f"Connection refused: nobody listens at {place}; check the port, and whether it is switched on"
        case av.ProtocolNotFoundError() | av.DemuxerNotFoundError():
            scheme = redact(scheme_of(settings.source))
            return f"this FFmpeg was built without {scheme}: use an address of RTSP, RTMP or HTTP"
        case av.ArgumentError():
            led = (
                ", or leads to one that is not of the network" if scheme_of(settings.source).startswith("http") else ""
            )
            return f"the address is none that can be understood{led}; {ENCODE}"
        case av.OSError() if error.errno in UNREACHABLE:
            return f"there is no route to {place}: check the address, the network and the firewall"
        case av.OSError() if error.errno == errno.EIO:
            return _network_cause(settings) or _hangs_up(settings)
        case av.EOFError() | av.ConnectionResetError() | av.ConnectionAbortedError() | av.BrokenPipeError():
            return _hangs_up(settings)
    return None


def _no_video(settings: StreamSettings) -> str:
    """What FFmpeg calls invalid data: over HTTP something did come, else it may have been nothing at all."""
    scheme = scheme_of(settings.source)
    if scheme in ("http", "https"):
        return _playlist_cause(settings) or "is not a video"
    if scheme in WITH_HOST:
        return _hangs_up(settings)
    return "hangs up, or sends what is not a video: check the address, and whether the other end is ready"


def _playlist_cause(settings: StreamSettings) -> str | None:
    """Of segments, whose names are in another file; None of others."""
    path = path_of(settings.source)
    if path.endswith(".m3u8"):
        return (
            "is not a playlist of video that can be read: it is empty, its segments or their key are not there or have "
            "names that FFmpeg does not open (of files: .ts, .mp4, .m4s), or they are protected by DRM"
        )
    if path.endswith(".mpd"):
        return "is a playlist of DASH, which FFmpeg cannot read here: use an address of HLS (.m3u8), RTSP or MP4"
    return None


def _hangs_up(settings: StreamSettings) -> str:
    scheme = scheme_of(settings.source).upper()
    return f"hangs up, or does not speak {scheme}: check the port, and whether it is ready for one more viewer"


def _place(source: str) -> str:
    """Host and port as they may be shown."""
    shown = redact(source).partition("://")[2]
    return shown.rpartition("@")[2].partition("/")[0].partition("?")[0]


def _network_cause(settings: StreamSettings) -> str | None:
    """What FFmpeg calls an input/output error: it is looked at again, the way a browser would."""
    try:
        parts = urlsplit(settings.source)
        host, port = parts.hostname, parts.port
    except ValueError:
        return f"the address is none that can be understood; {ENCODE}"
    if not host:
        return None
    try:
        socket.getaddrinfo(host, port)
    except OSError:
        sentence = f"the name {_place(settings.source)} is not known: check its spelling, and the DNS of this host"
        return f"{sentence}; {ENCODE}" if "@" in parts.path else sentence
    port = port or TLS_PORTS.get(parts.scheme.lower())
    if parts.scheme.lower() in TLS_PORTS and port is not None:
        return _tls_cause(host, port, settings)
    return None


def _tls_cause(host: str, port: int, settings: StreamSettings) -> str | None:
    context = ssl.create_default_context()
    try:
        with (
            socket.create_connection((host, port), settings.timeout_s) as plain,
            context.wrap_socket(plain, server_hostname=host),
        ):
            return None
    except ssl.SSLCertVerificationError as error:
        return (
            f"its TLS certificate is refused: {error.verify_message.rstrip('.')}; use the name that it is made for, "
            "trust its issuer (SSL_CERT_FILE), or set verify_tls = false"
        )
    except ssl.SSLError:
        return f"does not speak TLS at {_place(settings.source)}: check the port, or use the address without the s"
    except OSError:
        return None

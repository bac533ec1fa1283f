"""What is a file, which is read once and waits, and what is live: it is opened again, and the newest picture wins."""

from typing import Final

import msgspec

from engines.errors import SourceError
from pipeline.settings.schema import StreamSettings
from pipeline.sources.address import is_pipe, local_path, path_of, scheme_of
from pipeline.sources.base import FILE, URL, source_class, source_name
from pipeline.sources.opening import PLAYLISTS, opened

# Schemes of transports whose other end sends when it has something.
LIVE_SCHEMES: Final = frozenset(
    (
        *("rtsp", "rtsps", "rtp", "srtp", "sap", "srt"),
        *("rtmp", "rtmpe", "rtmps", "rtmpt", "rtmpte", "rtmpts"),
        *("tcp", "tls", "udp", "udplite", "unix"),
    )
)
# FFmpeg's names of formats whose header has the length, if there is one; of others it is guessed from what has come.
WITH_DURATION: Final = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "flv", "asf", "ogg")
SUFFIXES: Final = (".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".ogv", ".webm", ".wmv")


def is_live(settings: StreamSettings) -> bool:
    """Whether any end of a source is a loss, as of a camera, rather than its end, as of a file.

    A camera, and what a package brings, is what its class says. Of all else ``live`` of the settings says so; where it
    does not, what has an end is a file: whatever is on this host, and what an address of HTTP or the like leads to
    where that has a length or is a playlist with an end.
    """
    name = source_name(settings.source)
    if name not in (FILE, URL):
        return source_class(settings.source).live
    if settings.live is not None:
        return settings.live
    if local_path(settings.source) is not None or is_pipe(settings.source):
        return False
    return scheme_of(settings.source) in LIVE_SCHEMES or not _has_end(settings)


def settled(settings: StreamSettings) -> StreamSettings:
    """The settings with what had to be found out by opening the source: whether it is live."""
    looked_at = source_name(settings.source) == URL and scheme_of(settings.source) not in LIVE_SCHEMES
    if settings.live is not None or not looked_at:
        return settings
    return msgspec.structs.replace(settings, live=is_live(settings))


def _has_end(settings: StreamSettings) -> bool:
    try:
        with opened(settings, True) as (container, *_):
            name, has_duration = container.format.name, bool(container.duration)
            return has_duration if name in (*PLAYLISTS, *WITH_DURATION) else container.size > 0
    except SourceError:  # it may come later; or it is a file that is not there, which is refused then
        return path_of(settings.source).endswith(SUFFIXES)

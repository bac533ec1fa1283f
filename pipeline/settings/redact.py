"""Source addresses as they may be shown: in logs, messages, metrics and errors.

Cameras and services take their secrets anywhere: as user and password, as the user alone, as an RTMP stream key in the
path, behind ``;jwt=``, as ``?p=`` or ``?token=``. So nothing of an address is shown but its scheme, host and port, and
what is known to be harmless. All of this takes time linear in the length of the text.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple
from urllib.parse import quote

HIDDEN: Final = "***"
LONGEST_SCHEME: Final = 32
LARGEST_PORT: Final = 65535
LOCAL: Final = ("file", "ipc")  # what follows is the path of a file on this host

_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+(?:%[\w.-]+)?\]|[\w.-]+|\*)(?::(\d{1,5}|\*)?)?")
# A host that is hardly part of a password: an IPv6 or IPv4 address, a name with dots, or this host.
_CERTAIN_HOST: Final = re.compile(r"\[.*\]|\d{1,3}(?:\.\d{1,3}){3}|[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}|localhost")
_SCHEME_END: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*\Z")
# Steps of paths and values of queries that name a stream of a camera, as makers do; with a short number, an ending.
_HARMLESS: Final = re.compile(
    r"(?:av|axis-cgi|axis-media|cam|camera|cams|cgi-bin|ch|channel|channels|clip|desc|feed|h26[45]|hls|http|img|index|isapi|live|main|"
    r"media|mjpe?g|mpeg4?|multicast|onvif|playlist|preview|profile|realmonitor|rtp|rtsp|snapshot|stream|streaming|"
    r"streams|sub|track|trackid|udp|unicast|tcp|ufirststream|video|videomain|videosub|vod)?"
    r"[-_]?\d{0,3}(?:[x_]\d{1,4})?(?:\.(?:amp|avi|cgi|flv|m3u8|m4s|mjpe?g|mkv|mov|mp4|mpd|sdp|smp|ts|webm))?",
    re.IGNORECASE,
)
_HARMLESS_NAME: Final = re.compile(
    r"camera|ch|channel|codec|compression|fps|height|live|profile|proto|resolution|stream|subtype|transport|unicast|"
    r"videocodec|width",
    re.IGNORECASE,
)
# Names that may be shown, though what they stand for may not.
_SECRET_NAME: Final = re.compile(
    r"[\w.-]{0,8}(?:pass(?:word|wd|phrase)?|pwd|psw|pw|key|token|secret|auth|sig(?:nature)?|cred|session|jwt)",
    re.IGNORECASE,
)
_SECRET: Final = re.compile(r"pas|pwd|psw|pw|key|token|secret|auth|sig|cred|session|jwt", re.IGNORECASE)
_ENCODED: Final = re.compile(r"(?:[\w.~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*", re.ASCII)
_WORDS: Final = re.compile(r"[^\s'\"<>`]+")


class FromVariable(str):
    """A text of the configuration in which variables were replaced; where it is shown, it is as it was written."""

    written: str

    def __new__(cls, value: str, written: str) -> "FromVariable":
        made = super().__new__(cls, value)
        made.written = written
        return made

    def __reduce__(self) -> "tuple[type[FromVariable], tuple[str, str]]":
        return FromVariable, (str(self), self.written)

    def __repr__(self) -> str:
        return repr(redact(self.written))


def as_written(value: object) -> str:
    """Return the text that a configuration has in place of a value; an ``enc_hook`` of msgspec."""
    if isinstance(value, FromVariable):
        return value.written
    raise NotImplementedError(type(value))


def user_encoded(value: str, written: str, span: tuple[int, int]) -> str:
    """The value of a variable in an address, percent-encoded where it stands for a user name or a password.

    One that stands for both has a colon between them. What is encoded already stays.

    Args:
        value: of the variable.
        written: the address with its variables.
        span: where in it the variable stands.

    >>> user_encoded("p@ss/word", "rtsp://ada:${SECRET}@cam/1", (11, 20))
    'p%40ss%2Fword'
    """
    start = written.find("://") + 3
    authority, _ = _split(written[start:])
    end = start + authority.rfind("@")
    if start < 3 or not start <= span[0] < end or (_ENCODED.fullmatch(value) and "%" in value):
        return value
    if span == (start, end) and ":" in value:
        user, _, password = value.partition(":")
        return f"{quote(user, safe='')}:{quote(password, safe='')}"
    return quote(value, safe="")


class _Address(NamedTuple):
    user: bool  # whether there is one, or a password
    place: str  # host and port; HIDDEN where it is not certain which part they are
    rest: str  # from the first / ? or # on


def redact(source: str) -> str:
    """Return a source as it may be shown: of an address its scheme, host and port, and what is known to be harmless.

    What stands before an @ is the user name or a password, and hidden. People do not escape the @ / : ? # in their
    passwords: where an @ stands beyond the first of / ? #, the host is shown only if one of the two ways to read the
    address gives a likely one. A file's name is no secret. Of a text that was filled in from variables, that which was
    written is shown.

    >>> redact("rtsp://ada:pa@ss/word@10.0.0.7:554/live?token=abc&channel=1")
    'rtsp://***@10.0.0.7:554/live?token=***&channel=1'
    >>> redact("rtmp://live.example.org/app/a1b2-c3d4")
    'rtmp://live.example.org/***/***'
    """
    if isinstance(source, FromVariable):
        return redact(source.written)
    before, found, after = source.partition("://")
    if not found:
        return _without_scheme(source)
    match = _SCHEME_END.search(before[-LONGEST_SCHEME:])
    scheme = match[0] if match else ""
    # Protocols within protocols ("crypto+https", "subfile,,start,0,,:http"): what is before the last is hidden.
    shown = (HIDDEN if len(scheme) < len(before) else "") + scheme
    if scheme.lower() in LOCAL:
        return f"{shown}://{_hide_named(after)}"
    address = _read(after)
    return f"{shown}://{HIDDEN + '@' if address.user else ''}{address.place}{_rest(address.rest)}"


def redact_in(text: str, *sources: str) -> str:
    """Return a free text, such as another library's error, with all addresses in it as :func:`redact` shows them.

    Args:
        text: that may quote addresses.
        sources: addresses that are hidden wherever they stand, with spaces and quotes in them.
    """
    for source in filter(None, sources):
        shown = redact(source)
        if shown != source:
            text = text.replace(str(source), shown)
    return _WORDS.sub(_redact_word, text)


def _redact_word(match: re.Match[str]) -> str:
    word = match[0].lstrip("([{")
    before, word = match[0][: len(match[0]) - len(word)], word.rstrip(")]},.;:")
    return f"{before}{redact(word)}{match[0][len(before) + len(word) :]}" if "://" in word else match[0]


def _read(after: str) -> _Address:
    authority, rest = _split(after)
    _, _, place = authority.rpartition("@")
    has_user = len(place) < len(authority)
    if "@" in rest:
        _, _, later = rest.rpartition("@")
        other, other_rest = _split(later)
        own_is_certain, other_is_certain = _is_certain(place), _is_certain(other)
        if other_is_certain and not own_is_certain:
            return _Address(True, other, other_rest)
        if has_user or not own_is_certain:
            return _Address(False, HIDDEN, "")
    if not _is_place(place):
        return _Address(has_user, HIDDEN, "")
    return _Address(has_user, place, rest)


def _split(text: str) -> tuple[str, str]:
    """Authority and what follows it."""
    end = min((place for mark in "/?#\\" if (place := text.find(mark)) >= 0), default=len(text))
    return text[:end], text[end:]


def _is_place(text: str) -> bool:
    match = _HOST.fullmatch(text)
    if match is None:
        return False
    # Five digits that are no port may be a password, but not behind what is an address for certain.
    return match[2] in (None, "*") or int(match[2]) <= LARGEST_PORT or _is_certain(text)


def _is_certain(text: str) -> bool:
    match = _HOST.fullmatch(text)
    return match is not None and _CERTAIN_HOST.fullmatch(match[1]) is not None


def _rest(rest: str) -> str:
    """Path, query and fragment, step by step."""
    path, asked, query = rest.partition("?")
    path, marked, _ = path.partition("#")
    query, marked_later, _ = query.partition("#")
    shown = "/".join(step if _HARMLESS.fullmatch(step) else HIDDEN for step in path.split("/"))
    if asked and not marked:
        shown += "?" + "&".join(_items(query))
    return shown + (f"#{HIDDEN}" if marked or marked_later else "")


def _items(query: str) -> Iterator[str]:
    for item in query.split("&"):
        name, given, value = item.partition("=")
        if given and _HARMLESS_NAME.fullmatch(name):
            yield f"{name}={value if _HARMLESS.fullmatch(value) else HIDDEN}"
        elif given and _SECRET_NAME.fullmatch(name):
            yield f"{name}={HIDDEN}"
        else:
            yield HIDDEN if item else item


def _without_scheme(text: str) -> str:
    """A file, a camera's index, or an address whose scheme was forgotten."""
    user, _, rest = text.rpartition("@")
    return f"{HIDDEN}@{_place_and_rest(rest)}" if ":" in user else _hide_named(text)


def _place_and_rest(text: str) -> str:
    place, rest = _split(text)
    return place + _rest(rest) if _is_place(place) else HIDDEN


def _hide_named(text: str) -> str:
    """A text with the values hidden that stand behind names such as ``password=``."""
    items = []
    for item in text.split("&"):
        name, given, _ = item.partition("=")
        items.append(f"{name}={HIDDEN}" if given and _SECRET.search(name) else item)
    return "&".join(items)

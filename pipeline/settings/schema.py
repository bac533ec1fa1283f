"""The configuration of a run: frozen structs, one :func:`load`.

Relative paths in a configuration (``model.path``, ``identity.gallery``, ``record.directory``, sources that are
files) are relative to the current directory, not to the file they stand in.
"""

import math
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from engines.engine import Backend, Precision
from engines.errors import ConfigError
from engines.nms import Suppression
from pipeline.frames.polygons import crossing_edges
from pipeline.settings import sinks
from pipeline.settings.redact import FromVariable, redact

Positive = Annotated[int, msgspec.Meta(gt=0)]
Index = Annotated[int, msgspec.Meta(ge=0)]
Seconds = Annotated[float, msgspec.Meta(gt=0.0)]
Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
StreamName = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z",
        description="1 to 64 letters, digits, dots, dashes and underscores, a letter or digit first",
    ),
]

Point = Annotated[
    tuple[Share, Share],
    msgspec.Meta(description="two numbers [x, y] from 0 to 1, shares of the picture's width and height"),
]
GALLERY: Final = "people.sqlite"  # which the command line takes unless told otherwise

POLYGON = "an array of 3 to 64 points [x, y]"
Labels = Annotated[tuple[str, ...], msgspec.Meta(min_length=1, description="an array of one label or more")]
Anchor = Literal[
    "foot", "centre"
]  # what of an object's box must be inside: the middle of its lower edge, or its middle


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class ZoneSettings(_Section, frozen=True):
    """A named polygon in the picture of a stream; docs/zones.md."""

    name: StreamName
    points: Annotated[tuple[Point, ...], msgspec.Meta(min_length=3, max_length=64, description=POLYGON)]
    labels: Labels | None = None  # of the objects that may enter; None: all
    anchor: Anchor = "foot"
    margin: Share = 0.01  # share of the picture's height that an object must be outside before it has left
    dwell_s: Seconds | None = None  # stream time inside after which there is an event; None: none


class LineSettings(_Section, frozen=True):
    """A named line in the picture of a stream; docs/zones.md."""

    name: StreamName
    points: Annotated[tuple[Point, Point], msgspec.Meta(description="an array of two points [x, y], from and to")]
    labels: Labels | None = None  # of the objects that are counted; None: all
    anchor: Anchor = "foot"
    margin: Share = 0.01  # share of the picture's height that an object must be away before it can cross back


class StreamSettings(_Section, frozen=True):
    """One camera, RTSP address or file."""

    name: StreamName
    source: str  # rtsp://..., another URL FFmpeg reads, a file, or a camera's index as text ("0")
    # Files only: as fast as it goes, at its own pace, or as a camera's, which waits for nobody: newest wins.
    pace: Literal["realtime", "fast", "camera"] = "fast"
    loop: bool = False  # files only: begin again at the end (time goes on)
    transport: Literal["tcp", "udp"] = "tcp"  # RTSP only
    timeout_s: Seconds = 5.0  # opening and reading
    decode: Literal["ffmpeg", "nvdec"] = "ffmpeg"  # "nvdec": on an NVIDIA GPU's video decoder, docs/gpu.md ...
    decode_gpu: Index = 0  # ... of this index
    reconnect_min_s: Seconds = 0.5  # live sources: backoff, doubled each time, jittered
    reconnect_max_s: Seconds = 3.0  # short: a source that comes back is seen again within 5 s
    # Frames between hosts, docs/hosts.md. From here: to that address, and nothing else is done with them here.
    forward: str | None = None  # tcp://HOST:PORT, where the other host has the source zmq+tcp://...:PORT
    encoding: Literal["jpeg", "raw"] = "jpeg"
    jpeg_quality: Annotated[int, msgspec.Meta(ge=1, le=100)] = 90
    server_key: str | None = None  # the other host's public CURVE key
    curve_secret_file: str | None = None  # zmq+tcp:// only: this host's CURVE key
    insecure: bool = False  # to or from other hosts without keys
    zones: tuple[ZoneSettings, ...] = ()
    lines: tuple[LineSettings, ...] = ()


class ModelSettings(_Section, frozen=True):
    """Which model, and what runs it."""

    path: str = "n"  # a released model's name, or a model folder
    backend: Literal["auto"] | Backend = "auto"
    precision: Precision = "auto"
    gpu: Index | None = None  # as CUDA counts them, from 0; None: the first, where the backend runs on one
    torch_compile: bool = False  # backend = "torch": let torch.compile make its kernels, in minutes, at every start


class InferenceSettings(_Section, frozen=True):
    """How frames are batched across streams, how many are inferred, and which detections count."""

    max_batch: Positive = 8
    max_queue_delay_ms: Annotated[float, msgspec.Meta(ge=0.0)] = 50.0  # see Batcher
    rate: Literal["full", "auto"] = "full"  # "auto": while nothing moves, tracks are carried on without inference ...
    min_rate_hz: Annotated[float, msgspec.Meta(gt=0.0)] = 1.0  # ... but for so many frames a second of each stream
    object_score: Share | None = None  # None: the model's own thresholds
    face_score: Share | None = None
    preprocess: Literal["cpu", "gpu"] = "cpu"  # where pictures are scaled; "gpu": where the engine runs
    nms: Suppression = "class-aware"  # of objects; soft: overlapping ones lose score in place of being removed


class TrackingSettings(_Section, frozen=True):
    """Both trackers. Times are stream time."""

    low_score_ratio: Share = (
        0.4  # detections down to this share of the threshold's odds carry a track on, but start none
    )
    min_iou: Share = 0.2
    confirm_frames: Positive = 2  # detections before a track is shown, more where they are weak
    max_lost_s: Seconds = 1.5
    camera_motion: bool = False  # tell it from the picture, for cameras that pan or shake


class SmoothingSettings(_Section, frozen=True):
    """Labels over frames."""

    half_life_s: Seconds = 0.2
    margin: Share = 0.1  # a new label must lead by this much
    hold_s: Annotated[float, msgspec.Meta(ge=0.0)] = 0.05  # for this long


class IdentitySettings(_Section, frozen=True):
    """Faces and the gallery."""

    # SQLite file; None: GALLERY in the current directory, where `trunkline run` finds one; "": no names.
    gallery: str | None = None
    similarity: Annotated[float, msgspec.Meta(ge=-1.0, le=1.0)] | None = None  # None: the model's threshold
    min_views: Positive = 3  # face-entry views of a track before a name is given
    min_face_px: Positive = 24  # smaller faces are not embedded
    reload_s: Seconds = 0.25  # how often the gallery is looked at for changes


class PublishSettings(_Section, frozen=True):
    """The results socket."""

    address: str = "tcp://127.0.0.1:5555"
    encoding: Literal["json", "msgpack"] = "json"
    curve_secret_file: str | None = None  # server's CURVE key, see docs/messages.md
    insecure: bool = False  # publish beyond this host without keys
    high_water_mark: Annotated[int, msgspec.Meta(gt=0, le=1_000_000)] = 1000  # messages kept for a slow subscriber


class EventSettings(_Section, frozen=True):
    """What events carry."""

    best_crops: bool = False  # the best view of a track as a JPEG; leave it out where pictures of people must not go


class RecordSettings(_Section, frozen=True):
    """Annotated video of each stream, for people to look at."""

    directory: str | None = None  # None: no video
    segment_s: Annotated[float, msgspec.Meta(ge=1.0)] = 600.0  # stream time after which a new file is begun
    keep_days: Annotated[float, msgspec.Meta(gt=0.0)] = 30.0  # files begun longer ago are deleted ...
    keep_gb: Annotated[float, msgspec.Meta(gt=0.0)] = 50.0  # ... and the oldest beyond so many 10^9 bytes of all
    min_free_gb: Annotated[float, msgspec.Meta(ge=0.0)] = 2.0  # nothing is recorded where less would be free


class SinkSettings(_Section, frozen=True):
    """One more place where messages go: ``[[sinks]]``, docs/extending.md."""

    kind: str  # jsonl, zmq, or what another package brings
    name: StreamName | None = None  # in logs, health messages and the summary; None: its kind
    queue: Positive = 1000  # messages that may wait for it; what comes beyond is lost to it alone
    options: Any = None  # the struct of the kind's own keys, which stand beside these in a file

    @property
    def shown_name(self) -> str:
        return self.name or self.kind


class ZmqSettings(_Section, frozen=True):
    """Stages as processes: only with links = "zmq"."""

    capture_processes: Positive | None = None  # None: one for every eight streams
    # Width and height of the largest picture of a live source, which shared memory is taken for; of a file its own is.
    live_picture: tuple[Positive, Positive] = (1920, 1080)


class Config(_Section, frozen=True):
    """A whole run."""

    streams: Annotated[tuple[StreamSettings, ...], msgspec.Meta(min_length=1)]
    model: ModelSettings = ModelSettings()
    inference: InferenceSettings = InferenceSettings()
    tracking: TrackingSettings = TrackingSettings()
    smoothing: SmoothingSettings = SmoothingSettings()
    identity: IdentitySettings = IdentitySettings()
    publish: PublishSettings = PublishSettings()
    events: EventSettings = EventSettings()
    record: RecordSettings = RecordSettings()
    sinks: tuple[SinkSettings, ...] = ()
    links: Literal["queue", "zmq"] = "queue"  # stages as threads of one process, or as processes
    zmq: ZmqSettings = ZmqSettings()


def load(path: str | Path, environment: Mapping[str, str] = os.environ) -> Config:
    """Read a TOML configuration; ``${VARIABLE}`` inside a text value is replaced from the environment.

    Raises:
        ConfigError: one sentence with the file, the path of the key (``streams[1].pace``), the value found there
            and what is allowed. Values that came from a variable, and passwords in sources, are not shown, here
            or where a value of the configuration is refused later: it is shown as it is written.
    """
    try:
        written = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        filled = _fill(written, environment, ())
        config = _convert(written, filled)
        _check(config, written)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: is not valid TOML: {error}") from error
    except _RefusedError as refusal:
        raise ConfigError(f"{path}: {refusal}") from None
    return config


class _RefusedError(Exception):
    """Everything of the sentence but the file."""


Key = tuple[str | int, ...]
RENAMED_KEYS = {"staleness_ms": "max_queue_delay_ms", "unsure_share": "low_score_ratio"}
_VARIABLE = re.compile(r"\$\{([^}]*)\}?")
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]")


def _fill(node: Any, environment: Mapping[str, str], key: Key) -> Any:
    """A copy of the parsed file with its variables replaced."""
    if isinstance(node, dict):
        return {name: _fill(child, environment, (*key, name)) for name, child in node.items()}
    if isinstance(node, list):
        return [_fill(child, environment, (*key, index)) for index, child in enumerate(node)]
    if isinstance(node, float) and not math.isfinite(node):
        raise _RefusedError(f"{_text(key)} is {node}, but must be a finite number")
    if not isinstance(node, str):
        return node

    def value_of(match: re.Match[str]) -> str:
        name = match[1]
        if not (match[0].endswith("}") and name.isidentifier()):
            raise _RefusedError(f"{_text(key)} has a ${{ without the name of a variable and a closing brace after it")
        if name not in environment:
            raise _RefusedError(f"{_text(key)} needs the environment variable {name}, which is not set")
        return environment[name]

    filled = _VARIABLE.sub(value_of, node)
    # Names go into messages, as plain text.
    return filled if filled == node or key[-1:] == ("name",) else FromVariable(filled, node)


def _convert(written: dict[str, Any], filled: dict[str, Any]) -> Config:
    tables = filled.get("sinks", [])
    for index, table in enumerate(tables if isinstance(tables, list) else []):
        if isinstance(table, dict) and "kind" not in table:
            raise _RefusedError(f"sinks[{index}].kind is missing; it must be {sinks.kinds()}")
    config = _converted(Config, filled | {"sinks": sinks.common_part(tables)}, written, ())
    with_options = [
        msgspec.structs.replace(sink, options=_sink_options(index, sink.kind, written["sinks"][index], tables[index]))
        for index, sink in enumerate(config.sinks)
    ]
    return msgspec.structs.replace(config, sinks=tuple(with_options))


def _sink_options(index: int, kind: str, written: dict[str, Any], filled: dict[str, Any]) -> msgspec.Struct:
    """The keys of a sink's table that are its kind's own."""
    try:
        settings = sinks.settings_of(kind)
    except ConfigError as error:
        raise _RefusedError(
            f"sinks[{index}].kind is {_shown(written['kind'])}, which cannot be used: {error}"
        ) from None
    if settings is None:
        raise _RefusedError(f"sinks[{index}].kind is {_shown(written['kind'])}, but must be {sinks.kinds()}")
    at, own, known = ("sinks", index), sinks.own_part(filled), settings.__struct_encode_fields__
    for key in own:  # whether or not the struct refuses others itself
        if key not in known:
            names = ", ".join((*sinks.COMMON, *known))
            raise _RefusedError(f"{_text((*at, key))} is not a key of a sink {kind!r}; the keys here are {names}")
    return _converted(settings, own, sinks.own_part(written), at)


Read = TypeVar("Read", bound=msgspec.Struct)


def _converted(kind: type[Read], filled: Any, written: Any, at: Key) -> Read:
    """A struct of what stands in the file at a key."""
    try:
        return msgspec.convert(filled, kind)
    except msgspec.ValidationError as error:
        # msgspec says where ("... - at `$.streams[1].pace`"); the value and what is allowed there are added here.
        why, _, where = str(error).rpartition(" - at `$")
        key = tuple(name or int(index) for name, index in _STEP.findall(where.rstrip("`")))
        raise _RefusedError(_explain(kind, at, key, written, why or str(error))) from None


def _explain(root: type[msgspec.Struct], at: Key, key: Key, written: Any, why: str) -> str:
    """The sentence for the value at ``key`` of what is at ``at``, as it is written in the file: variables stay names.

    Where the types are right, and the struct itself refuses the values, ``why`` says so in its words.
    """
    kind: msgspec.inspect.Type = msgspec.inspect.type_info(root)
    value = written
    for step in key:
        value = value[step]
        kind = _below(kind, step)
    key = (*at, *key)
    if isinstance(kind, msgspec.inspect.StructType) and isinstance(value, dict):
        return _explain_keys(key, kind, value, why)
    return f"{_text(key)} is {_shown(value)}, but must be {_allowed(kind)}"


def _below(kind: msgspec.inspect.Type, step: str | int) -> msgspec.inspect.Type:
    match kind:
        case msgspec.inspect.Metadata(type=inner):
            return _below(inner, step)
        case msgspec.inspect.UnionType(types=types):  # of one type and nothing
            return _below(next(one for one in types if not isinstance(one, msgspec.inspect.NoneType)), step)
        case msgspec.inspect.StructType(fields=fields):
            return next(field.type for field in fields if field.encode_name == step)
        case msgspec.inspect.TupleType(item_types=items):
            assert isinstance(step, int)
            return items[step]
        case _:
            assert isinstance(kind, msgspec.inspect.VarTupleType)
            return kind.item_type


def _explain_keys(key: Key, kind: msgspec.inspect.StructType, found: dict[str, Any], why: str) -> str:
    names = [field.encode_name for field in kind.fields]
    for name in found:
        if (now := RENAMED_KEYS.get(name)) in names:
            return f"{_text((*key, name))} has a new name: it is {_text((*key, now))} now, and means the same"
        if name not in names:
            return f"{_text((*key, name))} is not a key of this configuration; the keys here are {', '.join(names)}"
    missing = next((field for field in kind.fields if field.required and field.encode_name not in found), None)
    if missing is None:
        return f"{_text(key)} cannot be used: {why}"
    return f"{_text((*key, missing.encode_name))} is missing; it must be {_allowed(missing.type)}"


def _allowed(kind: msgspec.inspect.Type) -> str:
    """What a value of this type may be, in words."""
    match kind:
        case msgspec.inspect.Metadata(type=inner, extra_json_schema=schema):
            return str(schema["description"]) if schema and "description" in schema else _allowed(inner)
        case msgspec.inspect.UnionType(types=types):
            return " or ".join(_allowed(one) for one in types if not isinstance(one, msgspec.inspect.NoneType))
        case msgspec.inspect.LiteralType(values=values):
            return "one of " + ", ".join(f"{value!r}" for value in values)
        case msgspec.inspect.IntType() | msgspec.inspect.FloatType():
            return _allowed_number(kind)
        case msgspec.inspect.BoolType():
            return "true or false"
        case msgspec.inspect.TupleType(item_types=items):
            return f"an array of {len(items)}"
        case msgspec.inspect.VarTupleType(min_length=least):
            return f"an array of {'one table or more' if least else 'tables'}"
        case msgspec.inspect.StructType():
            return "a table"
        case _:
            return "text in quotes"


def _allowed_number(kind: msgspec.inspect.IntType | msgspec.inspect.FloatType) -> str:
    noun = "a whole number" if isinstance(kind, msgspec.inspect.IntType) else "a number"
    bounds = {"above": kind.gt, "at least": kind.ge, "below": kind.lt, "at most": kind.le}
    limits = " and ".join(f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None)
    return f"{noun} {limits}".rstrip()


def _shown(value: Any) -> str:
    match value:
        case str():
            return repr(redact(value))
        case bool():
            return str(value).lower()
        case dict():
            return "a table"
        case []:
            return "empty"
        case list():
            return f"an array of {len(value)}"
        case _:
            return str(value)


def _text(key: Key) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in key).lstrip(".")


def _check(config: Config, written: dict[str, Any]) -> None:
    """Rules between values, which types cannot say."""
    first: dict[str, int] = {}
    for index, stream in enumerate(config.streams):
        _check_places(index, stream, written["streams"][index])
        if stream.name in first:
            raise _RefusedError(
                f"streams[{index}].name is {_shown(written['streams'][index]['name'])}, but must differ from "
                f"the other names, and streams[{first[stream.name]}] has it already"
            )
        first[stream.name] = index
        if stream.reconnect_min_s > stream.reconnect_max_s:
            raise _RefusedError(
                f"streams[{index}].reconnect_min_s is {stream.reconnect_min_s:g}, but must be at most "
                f"reconnect_max_s, which is {stream.reconnect_max_s:g}"
            )
        if (stream.forward is None) != (config.streams[0].forward is None):
            raise _RefusedError(
                f"streams[{index}].forward is {'missing' if stream.forward is None else 'there'}, but must be as in "
                "streams[0]: all streams of a configuration are forwarded, or none"
            )
    _check_sinks(config)
    if config.streams[0].forward is not None and config.links != "queue":
        raise _RefusedError('links is "zmq", but must be "queue" where streams are forwarded: there is capture alone')


def _check_sinks(config: Config) -> None:
    """Refuse names that two sinks share: what they lose is told under them."""
    taken = dict.fromkeys(sinks.TAKEN, "a section of its own")
    for index, sink in enumerate(config.sinks):
        if sink.shown_name in taken:
            raise _RefusedError(
                f"sinks[{index}].name is {sink.shown_name!r}, but must differ from the names of other sinks, and "
                f"{taken[sink.shown_name]} has it already"
            )
        taken[sink.shown_name] = f"sinks[{index}]"
    if config.sinks and config.streams[0].forward is not None:
        raise _RefusedError("sinks is there, but must be left out where streams are forwarded: nothing is seen here")


def _check_places(index: int, stream: StreamSettings, written: dict[str, Any]) -> None:
    """Refuse names that two zones or lines of a stream share, and outlines that are none."""
    taken: dict[str, str] = {}
    places: list[tuple[str, int, ZoneSettings | LineSettings]] = [
        *(("zones", row, zone) for row, zone in enumerate(stream.zones)),
        *(("lines", row, line) for row, line in enumerate(stream.lines)),
    ]
    for kind, row, place in places:
        where = f"streams[{index}].{kind}[{row}]"
        if place.name in taken:
            raise _RefusedError(
                f"{where}.name is {_shown(written[kind][row]['name'])}, but must differ from the names of the stream's "
                f"other zones and lines, and {taken[place.name]} has it already"
            )
        taken[place.name] = where
        if stream.forward is not None:
            raise _RefusedError(
                f"{where} is there, but must be left out where the stream is forwarded: nothing is seen here"
            )
        if isinstance(place, ZoneSettings):
            if (edges := crossing_edges(place.points)) is not None:
                raise _RefusedError(
                    f"{where}.points is {_shown(list(place.points))} whose edges {edges[0]} and {edges[1]} touch or "
                    "cross, but must be a polygon of which only neighbours meet, in one point"
                )
        elif place.points[0] == place.points[1]:
            raise _RefusedError(f"{where}.points is the same point twice, but must be two points that differ")

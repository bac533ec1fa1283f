"""What a configuration must not say though its types allow it."""

from typing import Any

import msgspec

from engines.engine import backend_names
from engines.errors import ConfigError
from pipeline.frames.polygons import crossing_edges
from pipeline.settings import sinks
from pipeline.settings.explain import RefusedError, converted, shown
from pipeline.settings.redact import as_written
from pipeline.settings.schema import STANDARD_INPUT, Config, LineSettings, StreamSettings, ZoneSettings


def check_stream(settings: StreamSettings) -> None:
    """Refuse a stream that no configuration of a run could have.

    Raises:
        ConfigError: one sentence with the stream, the key, the value and what is allowed.
    """
    try:
        written = msgspec.to_builtins(settings, enc_hook=as_written)
        converted(StreamSettings, written, written, ())  # a value made in Python was not compared with its type
        check(Config(streams=(settings,)), {"streams": [written]})
    except RefusedError as refusal:
        sentence = str(refusal).replace("streams[0].", "")
        raise ConfigError(f"stream {settings.name!r}: {sentence}") from None
    if settings.forward is not None:
        raise ConfigError(f"stream {settings.name!r}: forward is there, but must be left out where the network is run")


def check(config: Config, written: dict[str, Any]) -> None:
    """Rules between values, which types cannot say.

    Args:
        config: to check.
        written: the same as it is written, with its variables.

    Raises:
        RefusedError: one of them is broken.
    """
    if config.model.backend not in (backends := ("auto", *backend_names())):
        raise RefusedError(
            f"model.backend is {shown(written['model']['backend'])}, but must be one of "
            f"{', '.join(map(repr, backends))}: those that are installed"
        )
    first: dict[str, int] = {}
    for index, stream in enumerate(config.streams):
        _check_places(index, stream, written["streams"][index])
        if stream.name in first:
            raise RefusedError(
                f"streams[{index}].name is {shown(written['streams'][index]['name'])}, but must differ from "
                f"the other names, and streams[{first[stream.name]}] has it already"
            )
        first[stream.name] = index
        if stream.source == STANDARD_INPUT and config.links == "zmq":
            raise RefusedError(
                f'streams[{index}].source is "-", but must be something else with links = "zmq": the processes of '
                "a run have no standard input"
            )
        if stream.reconnect_min_s > stream.reconnect_max_s:
            raise RefusedError(
                f"streams[{index}].reconnect_min_s is {stream.reconnect_min_s:g}, but must be at most "
                f"reconnect_max_s, which is {stream.reconnect_max_s:g}"
            )
        if (stream.forward is None) != (config.streams[0].forward is None):
            raise RefusedError(
                f"streams[{index}].forward is {'missing' if stream.forward is None else 'there'}, but must be as in "
                "streams[0]: all streams of a configuration are forwarded, or none"
            )
    _check_crops(config)
    _check_sinks(config, written)
    _check_web(config)
    if config.streams[0].forward is not None and config.links != "queue":
        raise RefusedError('links is "zmq", but must be "queue" where streams are forwarded: there is capture alone')


def _check_crops(config: Config) -> None:
    """Refuse more crops of a picture than may go through the network with it."""
    most = config.inference.max_batch
    asked = {f"streams[{index}].inference_crops": each.inference_crops for index, each in enumerate(config.streams)}
    for key, crops in {"inference.crops": config.inference.crops, **asked}.items():
        if crops and crops >= most:
            raise RefusedError(f"{key} is {crops}, but must be below inference.max_batch, which is {most}")


def _check_sinks(config: Config, written: dict[str, Any]) -> None:
    """Refuse names that two sinks share: what they lose is told under them."""
    taken = dict.fromkeys(sinks.TAKEN, "a section of its own")
    for index, sink in enumerate(config.sinks):
        if sink.shown_name in taken:
            named = written["sinks"][index].get("name") or sink.shown_name
            raise RefusedError(
                f"sinks[{index}].name is {shown(named)}, but must differ from the names of other sinks, and "
                f"{taken[sink.shown_name]} has it already"
            )
        taken[sink.shown_name] = f"sinks[{index}]"
    if config.packets.address is not None and config.streams[0].forward is not None:
        raise RefusedError("packets.address is there, but must be left out where streams are forwarded")
    if config.metrics.address is not None and config.streams[0].forward is not None:
        raise RefusedError("metrics.address is there, but must be left out where streams are forwarded")
    if config.sinks and config.streams[0].forward is not None:
        raise RefusedError("sinks is there, but must be left out where streams are forwarded: nothing is seen here")


def _check_web(config: Config) -> None:
    if config.web is None:
        return
    if config.streams[0].forward is not None:
        raise RefusedError("web is there, but must be left out where streams are forwarded: nothing is seen here")
    if (config.web.certificate is None) != (config.web.key is None):
        raise RefusedError("web.certificate and web.key must both be there, or both be left out")


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
            raise RefusedError(
                f"{where}.name is {shown(written[kind][row]['name'])}, but must differ from the names of the stream's "
                f"other zones and lines, and {taken[place.name]} has it already"
            )
        taken[place.name] = where
        if stream.forward is not None:
            raise RefusedError(
                f"{where} is there, but must be left out where the stream is forwarded: nothing is seen here"
            )
        if isinstance(place, ZoneSettings):
            if (edges := crossing_edges(place.points)) is not None:
                raise RefusedError(
                    f"{where}.points is {shown(list(place.points))} whose edges {edges[0]} and {edges[1]} touch or "
                    "cross, but must be a polygon of which only neighbours meet, in one point"
                )
        elif place.points[0] == place.points[1]:
            raise RefusedError(f"{where}.points is the same point twice, but must be two points that differ")

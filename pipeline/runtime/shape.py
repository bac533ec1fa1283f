"""The size of the frame entry in a run: the model's own, one that is asked for, or one in the shape of the streams."""

from collections.abc import Iterable, Iterator

import structlog
from msgspec import structs

from engines.errors import ConfigError, ModelError
from engines.sizes import at_size, best_size, grey_share
from engines.spec import Model, load_model
from pipeline.settings.schema import Config
from pipeline.sources.capture import picture_size

log = structlog.get_logger()


def with_size(config: Config) -> Config:
    """The configuration with ``inference.size`` said in pixels where it is ``auto``, which looks at the streams' files.

    Of a live stream its camera's settings say the shape, else ``zmq.live_picture`` does.

    Raises:
        TrunklineError: the model or a file cannot be read.
    """
    if config.inference.size != "auto":
        return config
    entry = load_model(config.model.path).spec.entry("frame")
    reference = entry.width, entry.height
    if entry.multiple_of is None:
        log.warning("inference.size is auto, but the model's file is for one size alone", size=_text(reference))
        chosen = reference
    else:
        pictures = set(_pictures(config))
        chosen = best_size(pictures, reference)
        grey = max((grey_share(each, chosen) for each in pictures), default=0.0)
        log.info("input size chosen", size=_text(chosen), model=_text(reference), grey_at_most=round(grey, 3))
    return structs.replace(config, inference=structs.replace(config.inference, size=_text(chosen)))


def model_of(config: Config) -> Model:
    """The model of a run, its frame entry at the size that the configuration says.

    Raises:
        ModelError: it cannot be read, or its frame entry has not this size.
        ConfigError: the size is still to be chosen.
    """
    model, size = load_model(config.model.path), config.inference.size
    if size == "model":
        return model
    if size == "auto":
        raise ConfigError("inference.size is 'auto', which is chosen where a run begins")
    width, height = map(int, size.split("x"))
    try:
        return at_size(model, (width, height))
    except ModelError as error:
        raise ModelError(f"inference.size is {size!r}: {error}") from None


def _pictures(config: Config) -> Iterator[tuple[int, int]]:
    for stream in config.streams:
        camera = stream.camera
        if camera.width is not None and camera.height is not None:
            yield camera.width, camera.height
        else:
            yield picture_size(stream) or config.zmq.live_picture


def _text(size: Iterable[int]) -> str:
    return "x".join(map(str, size))

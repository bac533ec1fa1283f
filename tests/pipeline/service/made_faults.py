"""Clips of whole runs, and engines and stages that fail or take their time."""

import itertools
from collections.abc import Callable, Iterable, Iterator

import pytest

from engines.engine import Engine
from engines.spec import EntryName, Model
from pipeline.frames.types import Carrier
from pipeline.inference import preprocess as preprocessing
from pipeline.inference import stage as inference
from pipeline.inference.stage import open_entry
from pipeline.runtime import graph, postprocess
from pipeline.settings.schema import ModelSettings
from tests.pipeline.made_runs import (
    SlowEngine,
)

FRAMES = 40  # of a clip; dark in its first half, bright in its second
SIZE = (160, 120)
RATE = 25


def wrapped(monkeypatch: pytest.MonkeyPatch, entry: EntryName, wrap: Callable[[Engine], Engine]) -> None:
    """Let a run have ``wrap(engine)`` in place of the engine of an entry."""

    def opened(model: Model, name: EntryName, settings: ModelSettings) -> Engine:
        engine = open_entry(model, name, settings)
        return wrap(engine) if name == entry else engine

    monkeypatch.setattr(inference, "open_entry", opened)


def slowed(
    monkeypatch: pytest.MonkeyPatch, seconds: float, before: Callable[[int], object] = lambda number: None
) -> None:
    """Let the frame entry take so long for a batch; ``before`` hears the number of each, from 1."""
    wrapped(monkeypatch, "frame", lambda engine: SlowEngine(engine, seconds, before))


def crashing(monkeypatch: pytest.MonkeyPatch, stage: str, crashes: Callable[[int], bool]) -> None:
    """Let a stage crash over those of its items, numbered from 0 over all its lives, that ``crashes`` says."""
    module = next(module for module in (postprocess, preprocessing, inference, graph) if hasattr(module, stage))
    real, numbers = getattr(module, stage), itertools.count()

    def watched(items: Iterable[Carrier]) -> Iterator[Carrier]:
        for item in items:
            if crashes(next(numbers)):
                raise ZeroDivisionError("made to crash")
            yield item

    monkeypatch.setattr(module, stage, lambda items, *rest: real(watched(items), *rest))

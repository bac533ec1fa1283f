"""What ``trunkline benchmark`` is asked for."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer

from engines.engine import Precision, backend_names
from pipeline.settings.schema import ModelSettings
from tools.benchmarking.figures import REPEATS

MILLISECONDS = {"ms": 1.0, "s": 1e3, "": 1.0}  # in a unit; without one they are meant


class BenchmarkPart(StrEnum):
    """What can be measured, in the order in which it is."""

    engine = "engine"
    decode = "decode"
    preprocess = "preprocess"
    post = "post"
    transport = "transport"
    pipeline = "pipeline"
    streams = "streams"
    scaling = "scaling"


def _milliseconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(ms|s|)", text)
    if match is None or not float(match[1]):
        raise typer.BadParameter(f"{text!r} is no time: give 100ms, 0.1s or the like.")
    return float(match[1]) * MILLISECONDS[match[2]]


def _one_of(text: str, allowed: Sequence[str]) -> tuple[Any, ...]:
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in allowed:
            raise typer.BadParameter(f"{name!r} is not one of {', '.join(allowed)}.")
    return names


def _backends(text: str) -> tuple[Any, ...]:
    return _one_of(text, ("auto", *backend_names()))


def _precisions(text: str) -> tuple[Any, ...]:
    return _one_of(text, get_args(Precision))


SEVERAL = "several, with commas, are compared by engine, and the first is taken for the rest."


WhatOption = Annotated[list[BenchmarkPart] | None, typer.Argument(help="What to measure; everything if left out.")]
SourceOption = Annotated[
    list[str] | None, typer.Option(help="Video file to measure on, may be repeated; left out: a clip made for it.")
]
ClipOption = Annotated[Literal["720p", "1080p"], typer.Option(help="Size of the clip that is made.")]
ModelOption = Annotated[Path, typer.Option(help="Model folder.")]
BackendsOption = Annotated[Any, typer.Option(parser=_backends, metavar="NAME", help=f"What runs the model; {SEVERAL}")]
PrecisionOption = Annotated[Any, typer.Option(parser=_precisions, metavar="NAME", help=f"Arithmetic; {SEVERAL}")]
GpuOption = Annotated[int | None, typer.Option(min=0, help="GPU of the model, and of --decode.")]
TorchCompileOption = Annotated[
    bool, typer.Option("--torch-compile", help="engine: measure backend torch with torch.compile, too.")
]
PreprocessOption = Annotated[
    Literal["cpu", "gpu"], typer.Option(help="pipeline, streams, scaling: where pictures are scaled.")
]
DecodeOption = Annotated[
    Literal["ffmpeg", "nvdec", "vaapi"], typer.Option(help="pipeline, streams, scaling: what decodes.")
]
PredecodedOption = Annotated[
    int | None,
    typer.Option(min=1, help="pipeline: from so many frames of each stream in memory, beside the engine alone."),
]
SecondsOption = Annotated[
    float, typer.Option(min=0.5, help="How long each part, and each number of streams, is measured.")
]
RepeatsOption = Annotated[int, typer.Option(min=1, help="Repeats that time is divided into.")]
LinksOption = Annotated[
    Literal["queue", "zmq"], typer.Option(help="pipeline, streams, scaling: stages as threads or as processes.")
]
StreamsOption = Annotated[
    int | None, typer.Option(min=1, help="pipeline: streams, which play the sources in turn; one each if left out.")
]
P99Option = Annotated[
    Any, typer.Option(parser=_milliseconds, metavar="TIME", help="streams: latency that must hold, 100ms or 0.1s.")
]
FpsOption = Annotated[float, typer.Option(min=0.1, help="streams: frames a second of each.")]
ScalingFpsOption = Annotated[float, typer.Option(min=0.1, help="scaling: frames a second of each stream.")]
InferredOption = Annotated[
    float | None, typer.Option(min=0.1, help="streams, scaling: frames a second of each that are inferred; all.")
]
DetectSourceOption = Annotated[
    list[str] | None, typer.Option(help="streams, scaling: a smaller copy of each --source, decoded in its place.")
]
MaxStreamsOption = Annotated[int, typer.Option(min=1, help="streams and scaling: the most at once.")]


@dataclass(frozen=True, slots=True)
class Wish:
    """What to measure, and how: the options of the command."""

    what: WhatOption = None
    source: SourceOption = None
    clip: ClipOption = "720p"
    model: ModelOption = Path(ModelSettings().path)
    backend: BackendsOption = "auto"  # all of them for the engine, the first for everything else
    precision: PrecisionOption = "auto"
    gpu: GpuOption = None
    torch_compile: TorchCompileOption = False
    preprocess: PreprocessOption = "cpu"
    decode: DecodeOption = "ffmpeg"
    predecoded: PredecodedOption = None
    seconds: SecondsOption = 10.0
    repeats: RepeatsOption = REPEATS
    links: LinksOption = "queue"
    streams: StreamsOption = None
    p99: P99Option = "100ms"
    fps: FpsOption = 30.0
    scaling_fps: ScalingFpsOption = 5.0
    max_streams: MaxStreamsOption = 32
    inferred: InferredOption = None
    detect_source: DetectSourceOption = None

    @property
    def sources(self) -> Sequence[str]:
        """Files; none: a clip is made."""
        return self.source or ()

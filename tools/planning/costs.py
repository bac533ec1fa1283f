"""What a frame costs on this machine, measured in about a minute."""

import tempfile
from pathlib import Path
from typing import Final

import msgspec

from pipeline.settings.schema import ModelSettings
from tools.benchmarking.clip import lengthen, render
from tools.benchmarking.pipeline import measure_pipeline
from tools.benchmarking.run import Setup, Tell
from tools.benchmarking.stages import measure_decode

SIZES: Final = {
    "360p": (640, 360),
    "480p": (848, 480),
    "720p": (1280, 720),
    "1080p": (1920, 1080),
    "4k": (3840, 2160),
}  # width, height
CLIP_S: Final = 4.0  # of the clip that is made
DECODE_SHARE: Final = 0.1  # of the time, for the size that is not decoded in the pipeline
RUNS: Final = 3  # of the pipeline: as fast as it goes, its limit, and as a camera, each as long


class FrameCosts(msgspec.Struct, frozen=True, kw_only=True):
    """CPU milliseconds of one frame, all threads, each measured on one core's worth of work."""

    size: str  # of what is decoded
    decode: float
    scale: float  # to the network's input
    network: float
    rest: float  # everything else: batching, tracks, names, messages
    idle: float = (
        1.0  # what a frame costs where cores are idle, in small batches and cold caches, to where they are busy
    )

    def looking(self, crops: int) -> float:
        """Return the cost of scaling a picture and so many crops of it, and of the rows that these are in a batch."""
        return (1 + crops) * (self.scale + self.network)


def measure_costs(size: str, model: str, seconds: float, tell: Tell) -> FrameCosts:
    """Measure what a frame of a made clip costs.

    Args:
        size: a key of SIZES.
        model: a released model's name, or a model folder.
        seconds: for all of it; making the clip and starting runs are not counted.
        tell: hears what is being measured.
    """
    with tempfile.TemporaryDirectory(prefix="trunkline-plan-") as name:
        folder = Path(name)
        tell(f"Making a clip, {size}")
        render(folder / "clip.mp4", SIZES[size], CLIP_S)
        source = lengthen(str(folder / "clip.mp4"), folder / "clip.mkv")
        tell("Measuring decoding")
        decode = measure_decode([source], DECODE_SHARE * seconds, 1)
        setup = Setup((source,), ModelSettings(path=model), "queue", folder)
        share_s = (1.0 - DECODE_SHARE) * seconds / RUNS
        report = measure_pipeline(setup, 1, share_s, 1, lambda text: tell(f"Measuring: {text}"))
    return FrameCosts(
        size=size,
        decode=decode.cpu_ms_per_frame.median,
        scale=report.limit.scale_cpu_ms.median,
        network=report.limit.engine_cpu_ms.median,
        rest=max(0.0, report.cpu_ms_beyond_limit.median),
        idle=max(1.0, report.latency.cpu_ms_per_frame.median / report.throughput.cpu_ms_per_frame.median),
    )

"""A whole report made of thin air, for tests of what shows it."""

import msgspec

from tests.tools.benchmarking.made_watched import make_heard, make_watched
from tools.benchmarking.clip import BenchmarkClip
from tools.benchmarking.engine import BatchFigures, EngineFigures, EngineReport
from tools.benchmarking.figures import Percentiles, Spread
from tools.benchmarking.pipeline import FrameCost, summarise, summarise_predecoded
from tools.benchmarking.post import PostCase, PostFigures
from tools.benchmarking.report import BenchmarkReport, begin
from tools.benchmarking.stages import DecodeFigures, PreprocessFigures
from tools.benchmarking.streams import StreamsReport, Trial
from tools.benchmarking.streams import summarise as summarise_scaling
from tools.benchmarking.transport import TransportFigures

SPREAD = Spread.of([10.0, 9.0, 12.0])
TAILS = Percentiles(10.0, 20.0, 30.0, 40.0, 50.0)


def make_report() -> BenchmarkReport:
    """Every part, each with few figures; a stream's name and a refusal hold what HTML would misread."""
    heard = [make_heard(total_ms=10.0 + number) for number in range(50)]
    runs = [make_watched(heard, joules=100.0)] * 3
    batches = tuple(BatchFigures(batch, SPREAD, SPREAD, TAILS, SPREAD, 30) for batch in (1, 8))
    entry = EngineFigures("frame", 288, 288, "openvino", "bf16", "CPU", 2, batches)
    held = Trial(
        streams=2, failure=None, seconds=5.0, frames=300, latency_ms=TAILS, dropped={}, cores_used=1.0, rss_mib=300.0
    )
    silent = Trial(
        streams=4,
        failure="p99 beyond 100 ms",
        seconds=1.0,
        frames=0,
        latency_ms=None,
        dropped={"stale": 3},
        cores_used=2.0,
        rss_mib=310.0,
    )
    case = PostCase(
        objects=50,
        faces=10,
        named=True,
        streams=8,
        frames=100,
        face_crops=5,
        cpu_ms_per_frame=SPREAD,
        frames_per_s_per_core=SPREAD,
        steps_cpu_ms_per_frame={"detect": SPREAD, "track": SPREAD},
    )
    return msgspec.structs.replace(
        begin(None, 10.0, 3),
        clips=(BenchmarkClip("street <1>.mp4", 1280, 720, "h264", 25.0, 10.0, 3_000_000),),
        engine=EngineReport((entry,), ("torch int8: no <int8> here",)),
        decode=DecodeFigures(100, SPREAD, SPREAD, SPREAD),
        preprocess=PreprocessFigures(100, 288, 288, SPREAD, SPREAD, SPREAD),
        post=PostFigures(300, 100, (case,)),
        transport=TransportFigures(1920, 1080, 100, SPREAD, SPREAD, SPREAD, SPREAD),
        pipeline=summarise(1, "queue", runs, [FrameCost(4.0, 1.0, 5.0)] * 3, runs, cores=2),
        predecoded=summarise_predecoded(2, 64, "cpu", runs, 8, [20.0] * 3),
        streams=StreamsReport(p99_ms=100.0, fps=30.0, most=2, tried_up_to=32, trials=(held, silent)),
        scaling=summarise_scaling(5.0, {1: runs, 2: runs}),
    )

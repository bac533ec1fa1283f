"""Images per second of every GPU engine beside what the GPU could do at most, as Markdown; for ``gpu_report.sh``.

A roofline (Williams, Waterman & Patterson 2009): a network that needs so many multiply-accumulates and moves so many
bytes per image cannot run faster than the GPU multiplies or moves them, whichever is slower. Both peaks are measured
here, not taken from a data sheet: a large matrix product, a large copy, and a copy from pinned memory for the pictures
that go up. Bytes are those of every layer's input and output once, in two bytes each (four in f32), and of the weights
once a batch: what a GPU moves that joins activations with layers and keeps nothing in its caches. A network may beat
that where layers stay in the cache.

    python -m tools.gpu_roofline MODEL_FOLDER
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from engines.backends.weights import load_entry
from engines.engine import Backend, Precision, open_engine
from engines.errors import EngineError, TrunklineError
from engines.network.cost import cost
from engines.pages import render
from engines.spec import EntryName, Model, load_model
from tools.benchmarking.engine import measure_throughput

BATCHES: Final = (1, 8, 32, 128)
ENGINES: Final[tuple[tuple[Backend, Precision], ...]] = (
    ("tensorrt", "f32"),
    ("tensorrt", "f16"),
    ("tensorrt", "int8"),
    ("torch", "f32"),
    ("torch", "bf16"),
    ("torch", "f16"),
)
MEASURED_S: Final = 1.0  # of each batch size
SIDE: Final = 8192  # of the matrices
COPIED: Final = 2**30  # bytes
REPEATS: Final = 20


@dataclass(frozen=True, slots=True)
class Peaks:
    """What the GPU does at most, measured."""

    macs: dict[str, float]  # multiply-accumulates a second, by precision
    memory: float  # bytes a second, read and written
    upload: float  # bytes a second from pinned memory


@dataclass(frozen=True, slots=True)
class NetworkWork:
    """What one image costs."""

    macs: int
    values: int  # that layers read and write, but for weights
    weights: int  # read once a batch
    picture: int  # bytes that go up

    def images_per_s(self, peaks: Peaks, precision: str, batch: int) -> tuple[float, str]:
        """The most that is possible, and what keeps it from being more."""
        size = 4 if precision == "f32" else 2
        moved = size * (self.values + self.weights / batch)
        bounds = {
            "arithmetic": peaks.macs[precision] / self.macs,
            "memory": peaks.memory / moved,
            "upload": peaks.upload / self.picture,
        }
        least = min(bounds, key=lambda name: bounds[name])
        return bounds[least], least


def main() -> None:
    """Print the section of the report; exit with 1 and a sentence where there is no GPU."""
    if not torch.cuda.is_available():
        sys.exit("error: no GPU: PyTorch finds none")
    try:
        model = load_model(sys.argv[1])
        print(_report(model, measure_peaks()))
    except TrunklineError as error:
        sys.exit(f"error: {error}")


def _report(model: Model, peaks: Peaks) -> str:
    rows = list(_rows(model, peaks))
    return render("tools", "gpu_roofline.md.j2", gpu=torch.cuda.get_device_name(), peaks=peaks, rows=rows)


def _rows(model: Model, peaks: Peaks) -> Iterator[tuple[object, ...]]:
    for entry in model.spec.network.entries:
        work = work_of(model, entry)
        for backend, precision in ENGINES:
            try:
                with open_engine(model, entry, backend, precision) as engine:
                    for batch in BATCHES:
                        reached = measure_throughput(engine, batch, MEASURED_S, repeats=1)[0].per_s
                        most, bound = work.images_per_s(peaks, precision, batch)
                        figures = f"{reached:.0f}", f"{most:.0f}", f"{reached / most:.0%}"
                        yield entry, backend, precision, batch, *figures, bound
            except EngineError as error:
                yield entry, backend, precision, "", str(error), "", "", ""


def work_of(model: Model, entry: EntryName) -> NetworkWork:
    """What one image of an entry costs, counted on the CPU."""
    spec, settings = model.spec.entry(entry), model.spec.network
    frame = model.spec.frame
    size = (frame.height, frame.width) if frame else None
    parts = cost(settings, len(model.spec.objects), len(model.spec.scenes), size).entries[entry]
    network = load_entry(model, entry)
    values = weights = 0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal values, weights
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        values += inputs[0].numel() + output.numel()
        weights += layer.weight.numel()

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    with torch.inference_mode():
        network(torch.zeros(1, spec.height, spec.width, 3, dtype=torch.uint8))
    return NetworkWork(sum(part.macs for part in parts.values()), values, weights, spec.height * spec.width * 3)


def measure_peaks() -> Peaks:
    """A large matrix product, a large copy on the GPU, and one from pinned memory."""
    torch.backends.cuda.matmul.allow_tf32 = False
    kinds = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
    macs = {}
    for name, kind in kinds.items():
        a = torch.randn(SIDE, SIDE, device="cuda").to(kind)
        macs[name] = SIDE**3 / _seconds(lambda a=a: a @ a)  # type: ignore[misc]
    macs["int8"] = 2 * macs["f16"]  # tensor cores multiply int8 twice as fast; PyTorch has no such product to measure
    source = torch.zeros(COPIED, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    memory = 2 * COPIED / _seconds(lambda: target.copy_(source))
    pinned = torch.zeros(COPIED, dtype=torch.uint8, pin_memory=True)
    upload = COPIED / _seconds(lambda: target.copy_(pinned, non_blocking=True))
    return Peaks(macs, memory, upload)


def _seconds(work: Callable[[], object]) -> float:
    """The least of several runs, by the GPU's own clock."""
    times = []
    for _ in range(REPEATS):
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        began.record()
        work()
        ended.record()
        torch.cuda.synchronize()
        times.append(float(began.elapsed_time(ended)) / 1e3)
    return min(times)


if __name__ == "__main__":
    main()

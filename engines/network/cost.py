"""What a network costs: multiply-accumulates and parameters, by entry and by part."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import msgspec
import torch
from torch import Tensor, nn

from engines.alignment import SIZE as FACE_SIZE
from engines.network.entries import FaceEntry
from engines.network.network import Network, build_network
from engines.spec import EntryName, NetworkSettings

PartName = str  # trunk, neck or a task


@dataclass(frozen=True, slots=True)
class PartCost:
    """What a part does for one picture of an entry, and the parameters with which it does it."""

    macs: int
    parameters: int


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one picture through each entry. The trunk's convolutions serve both, and are counted in both."""

    entries: dict[EntryName, dict[PartName, PartCost]]
    parameters: int  # of the whole network, each counted once

    @property
    def macs(self) -> int:
        """Of one picture through each entry."""
        return sum(part.macs for parts in self.entries.values() for part in parts.values())


def cost(settings: NetworkSettings, objects: int, scenes: int, frame_size: tuple[int, int] | None) -> Cost:
    """Count what a network of these settings, object classes and scenes costs.

    Multiply-accumulates are those of convolutions and linear layers: for each value of the output, the weights that
    it is a sum over. Biases, normalisations (in an exported entry they are part of the convolutions), activations,
    additions, pooling and decoding are not counted. Parameters are all that training changes, biases and
    normalisations with them.

    Args:
        settings: of the network.
        objects: how many object classes.
        scenes: how many scenes.
        frame_size: height and width of the frame entry's input, multiples of 32; None for a network that has none.
    """
    with torch.random.fork_rng(devices=[]):  # to count must not change what is random elsewhere
        network = build_network(settings, objects, scenes).eval()
    sizes = {"frame": frame_size or (0, 0), "face": (FACE_SIZE, FACE_SIZE)}
    images = {entry: torch.zeros(1, *sizes[entry], 3, dtype=torch.uint8) for entry in settings.entries}
    face = FaceEntry(network, mirrored=settings.mirrored_faces)
    runs = {"frame": lambda: network.frame(images["frame"]), "face": lambda: face(images["face"])}
    entries = {entry: _entry_cost(network, entry, runs[entry]) for entry in settings.entries}
    return Cost(entries, sum(parameter.numel() for parameter in network.parameters()))


def share_of_single_tasks(
    settings: NetworkSettings, objects: int, scenes: int, frame_size: tuple[int, int] | None
) -> float:
    """Multiply-accumulates of the network over the sum of those of one network of the same shape for each task.

    Each network sees one picture through each of its entries.
    """
    apart = [msgspec.structs.replace(settings, tasks=(task,)) for task in settings.tasks]
    whole, *singles = (cost(each, objects, scenes, frame_size).macs for each in (settings, *apart))
    return whole / sum(singles)


def count_macs(network: nn.Module, run: Callable[[], object]) -> dict[str, int]:
    """Multiply-accumulates, as :func:`cost` counts them, of what ``run`` does with a network, by its child modules."""
    macs: defaultdict[str, int] = defaultdict(int)
    hooks = [
        module.register_forward_hook(partial(_count, macs, name.partition(".")[0]))
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad():
        run()
    for hook in hooks:
        hook.remove()
    return dict(macs)


def _entry_cost(network: Network, entry: EntryName, run: Callable[[], object]) -> dict[PartName, PartCost]:
    macs = count_macs(network, run)
    parts: tuple[PartName, ...] = ("trunk", "neck", *network.tasks)
    return {part: PartCost(macs[part], _parameters(network, part, entry)) for part in parts if part in macs}


def _count(macs: dict[str, int], part: str, layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    macs[part] += output.numel() * layer.weight[0].numel()


def _parameters(network: Network, part: PartName, entry: EntryName) -> int:
    """The parameters of a part but for the normalisations of the other entry."""
    other = "face" if entry == "frame" else "frame"
    named = network.get_submodule(part).named_parameters()
    return sum(parameter.numel() for name, parameter in named if f"norms.{other}." not in name)

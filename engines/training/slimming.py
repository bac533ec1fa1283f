"""Weights for a narrower network of the same wiring: of each map, the channels that say most to what reads them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from engines.network.features import STRIDES
from engines.network.trunk import FACE_CELLS
from engines.spec import NetworkSettings

Weights = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class _Layer:
    """A convolution or linear layer, the map that it makes and the maps that it reads, one after the other."""

    name: str
    makes: str | None  # maps that are added to each other are one; None for what a head gives
    reads: tuple[str, ...] = ()  # () for pixels
    cells: int = 1  # of each channel that it reads

    def weight(self, weights: Weights) -> str:
        """The name of its weights (outputs, inputs, ...)."""
        own = f"{self.name}.conv.weight"
        return own if own in weights else f"{self.name}.weight"


def narrower(settings: NetworkSettings, than: NetworkSettings) -> bool:
    """Whether a network is no wider than another anywhere."""
    ours, theirs = (
        (*each.channels, each.neck, *(() if each.class_width is None else (each.class_width,)))
        for each in (settings, than)
    )
    return len(ours) == len(theirs) and all(own <= other for own, other in zip(ours, theirs, strict=True))


def slimmed(weights: Weights, own: Weights, settings: NetworkSettings) -> dict[str, Tensor]:
    """Return ``weights`` with as many channels as ``own`` has.

    A channel is worth the scale of its normalisation (Liu et al. 2017, "Network Slimming"), squared, times the sum of
    the squared weights that read it. What the others gave to later maps is for training to make up.

    Args:
        weights: of the wider network.
        own: of the narrower one.
        settings: of either; widths are not read.
    """
    layers = [layer for layer in _layers(settings) if layer.weight(weights) in weights]
    widths = {layer.makes: len(weights[layer.weight(weights)]) for layer in layers if layer.makes}
    kept = _kept(layers, widths, weights, own)
    found = dict(weights)
    for layer in layers:
        if layer.makes:
            parts = [name for name in weights if name.startswith(f"{layer.name}.") and weights[name].ndim]
            found |= {name: found[name][kept[layer.makes]] for name in parts}
        if layer.reads:
            columns = torch.cat([kept[name] + start for name, start in _starts(layer, widths)])
            inputs = (columns[:, None] * layer.cells + torch.arange(layer.cells)).flatten()
            found[layer.weight(weights)] = found[layer.weight(weights)][:, inputs]
    return found


def _kept(layers: list[_Layer], widths: Mapping[str, int], weights: Weights, own: Weights) -> dict[str, Tensor]:
    """The channels of each map that are kept, in their order."""
    scales, readers = ({name: torch.zeros(width) for name, width in widths.items()} for _ in range(2))
    for layer in layers:
        norms = [name for name in weights if name.startswith(f"{layer.name}.norms.") and name.endswith(".weight")]
        if layer.makes:
            scales[layer.makes] += torch.stack([weights[name].float().square() for name in norms]).sum(0)
        squares = weights[layer.weight(weights)].float().square().transpose(0, 1).flatten(1).sum(1)
        for name, start in _starts(layer, widths):
            readers[name] += squares.reshape(-1, layer.cells).sum(1)[start : start + widths[name]]
    counts = {layer.makes: len(own[layer.weight(own)]) for layer in layers if layer.makes}
    return {name: (scales[name] * readers[name]).topk(count).indices.sort().values for name, count in counts.items()}


def _starts(layer: _Layer, widths: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """The maps that a layer reads, each with the place of its first channel."""
    start = 0
    for name in layer.reads:
        yield name, start
        start += widths[name]


def _layers(settings: NetworkSettings) -> Iterator[_Layer]:
    """All layers whose widths differ between two networks of one wiring; some of them a network may lack."""
    yield _Layer("trunk.stem", "c0")
    for stage, depth in enumerate(settings.depths):
        below, here = f"c{stage}", f"c{stage + 1}"
        yield _Layer(f"trunk.stages.{stage}.down", here, (below,))
        for number in range(depth):
            block = f"trunk.stages.{stage}.blocks.{number}"
            yield _Layer(f"{block}.first", block, (here,))
            yield _Layer(f"{block}.second", here, (block,))
    yield from _NECK
    for level in range(len(STRIDES)):
        yield from _tower("objects", level, settings.towers)
        yield from _tower("faces", level, settings.towers)
    yield _Layer("scene.linear", None, ("c3", "c4"))
    for head in ("identity.linear", "identity.quality", "mask.linear"):
        yield _Layer(head, None, ("c4",), FACE_CELLS)


_NECK = (
    _Layer("neck.lateral.0", "fine", ("c2",)),
    _Layer("neck.lateral.1", "coarse", ("c3",)),
    _Layer("neck.lateral.2", "coarse", ("c4",)),
    _Layer("neck.top_down.0", "fine", ("coarse",)),
    _Layer("neck.top_down.1", "p0", ("fine",)),
    _Layer("neck.down.0", "fine", ("p0",)),
    _Layer("neck.bottom_up.0", "p1", ("fine",)),
    _Layer("neck.down.1", "coarse", ("p1",)),
    _Layer("neck.bottom_up.1", "p2", ("coarse",)),
)


def _tower(head: str, level: int, depth: int) -> Iterator[_Layer]:
    """The layers of a head of boxes at one level of the pyramid."""
    read = shared = f"p{level}"
    for number in range(depth):
        shared, made = read, f"{head}.towers.{level}.{number}"
        yield _Layer(made, made, (shared,))
        read = made
    yield _Layer(f"{head}.predict.{level}", None, (read,))
    yield _Layer(f"{head}.class_towers.{level}", f"{head}.class_towers.{level}", (shared,))
    yield _Layer(f"{head}.scores.{level}", None, (f"{head}.class_towers.{level}",))

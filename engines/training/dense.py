"""Dense teaching: what a detector says of every cell of the very pictures that training sees.

Boxes that a detector drew once tell where things are; its scores at all cells, and the maps that it takes them from,
tell how sure it is of every class everywhere, of the picture as it was varied. Its head has the cells of ours: strides
8, 16 and 32, one box a cell (YOLOX, Ge et al. 2021). Its weights are not taken over.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engines.data.names import COCO_NAMES, coco_name
from engines.detectors.detector import open_session
from engines.detectors.layout import names_in
from engines.errors import ModelError, one_line
from engines.network.detection_head import DetectionHead
from engines.network.features import STRIDES, Features, Grid
from engines.training.losses import BOX_WEIGHT, Loss, giou, quality_focal
from engines.training.settings import DenseSettings

if TYPE_CHECKING:
    import onnx

BOX_VALUES = 5  # of a cell before its class scores: box and objectness
SURE = 0.1  # least score of a cell whose box is taken, too


@dataclass(frozen=True, slots=True)
class DenseTargets:
    """What the detector says of a micro-batch."""

    scores: Tensor  # (N, A, K) in [0, 1], of the classes that it knows
    boxes: Tensor  # (N, A, 4) xyxy input pixels
    features: tuple[Tensor, ...]  # (N, D, H / stride, W / stride) for each of STRIDES: what its outputs are made from


class DenseTeacher:
    """A YOLOX in ONNX Runtime, cut off before its boxes are decoded, for pictures of any size.

    Args:
        file: its ONNX file.
        settings: how it takes pictures.
        objects: names of our classes.
        threads: of ONNX Runtime.

    Raises:
        ModelError: the file cannot be opened, is no YOLOX, or knows none of the classes.
    """

    def __init__(self, file: Path, settings: DenseSettings, objects: Sequence[str], threads: int) -> None:
        self.session = open_session(_cut(file), file, threads)
        self.bgr = settings.channels == "bgr"
        self.input = self.session.get_inputs()[0].name
        found = self._run(torch.zeros(1, 64, 64, 3, dtype=torch.uint8))
        classes = found[0].shape[1] - BOX_VALUES
        self.widths = tuple(each.shape[1] for each in found[len(STRIDES) :])
        names = names_in(self.session.get_modelmeta().custom_metadata_map) or COCO_NAMES
        if len(names) != classes:
            raise ModelError(f"detector {file}: tells {classes} classes apart, but names {len(names)}")
        columns = {coco_name(name): place for place, name in enumerate(names)}
        known = [(place, columns[coco_name(name)]) for place, name in enumerate(objects) if coco_name(name) in columns]
        if not known:
            raise ModelError(f"detector {file}: knows none of {', '.join(objects)}")
        self.known, self.columns = (torch.tensor(each) for each in zip(*known, strict=True))

    def __call__(self, pictures: Tensor, grid: Grid) -> DenseTargets:
        """What it says of uint8 RGB pictures (N, H, W, 3), sides multiples of 32, at the cells of their grid."""
        found = self._run(pictures.cpu())
        rows = torch.cat([each.flatten(2).transpose(1, 2) for each in found[: len(STRIDES)]], 1).to(pictures.device)
        stride = grid.strides[:, None]
        centre = rows[..., :2] * stride + (grid.points - stride / 2)  # YOLOX counts from the cells' corners
        half = rows[..., 2:4].exp() * stride / 2
        scores = rows[..., 4:5] * rows[..., BOX_VALUES:][..., self.columns.to(rows.device)]
        features = tuple(each.to(pictures.device) for each in found[len(STRIDES) :])
        return DenseTargets(scores, torch.cat([centre - half, centre + half], -1), features)

    def _run(self, pictures: Tensor) -> list[Tensor]:
        ordered = pictures.flip(-1) if self.bgr else pictures
        planes = ordered.permute(0, 3, 1, 2).float().contiguous().numpy()
        return [torch.from_numpy(each) for each in self.session.run(None, {self.input: planes})]


class DenseCriterion(nn.Module):
    """How far our objects are from a detector's. Its adapters are learnt, and thrown away after training.

    Args:
        settings: the weights of its parts.
        known: (K,) places of the detector's classes among ours.
        width: channels of our pyramid.
        widths: of the detector's maps, by level.
    """

    known: Tensor

    def __init__(self, settings: DenseSettings, known: Tensor, width: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("known", known, persistent=False)
        self.adapters = nn.ModuleList(nn.Conv2d(width, theirs, 1) for theirs in widths)

    def forward(self, head: DetectionHead, raw: Tensor, grid: Grid, features: Features, targets: DenseTargets) -> Loss:
        """The loss of a micro-batch: scores at all cells, boxes of sure ones, and the likeness of the maps."""
        logits, boxes, _ = head.split(raw.float(), grid)
        best = targets.scores.amax(-1)
        sure = best > SURE
        scale = best[sure].sum().clamp(min=1.0)
        score_loss = quality_focal(logits[..., self.known], targets.scores).sum() / scale
        box_loss = ((1 - giou(boxes[sure], targets.boxes[sure])) * best[sure]).sum() / scale
        assert features.pyramid is not None
        levels = zip(self.adapters, features.pyramid, targets.features, strict=True)
        unlike = torch.stack([unlikeness(adapter(own).float(), theirs) for adapter, own, theirs in levels]).sum()
        parts = {"dense_class": score_loss.detach(), "dense_box": box_loss.detach(), "dense_maps": unlike.detach()}
        total = self.settings.weight * (score_loss + BOX_WEIGHT * box_loss) + self.settings.maps * unlike
        return Loss(total, parts)


def unlikeness(own: Tensor, theirs: Tensor) -> Tensor:
    """1 less the mean correlation of the channels of two maps (N, D, H, W) (Cao et al. 2022), 0 to 2.

    Only what changes from place to place counts, not how large a channel's values are.
    """
    flat = (each.transpose(0, 1).flatten(1) for each in (own, theirs))
    a, b = (F.normalize(each - each.mean(1, keepdim=True), dim=1, eps=1e-6) for each in flat)
    return 1 - (a * b).sum(1).mean()


def _cut(file: Path) -> bytes:
    """A YOLOX's graph, for pictures of any number and size, that ends before its boxes are decoded.

    It gives the outputs of each of STRIDES, and then the maps that those are made from.
    """
    import onnx

    try:
        model = onnx.load(file)
    except Exception as error:  # protobuf and onnx raise classes of their own for each kind of damage
        raise ModelError(f"detector {file}: cannot be read: {one_line(error)}") from error
    graph = model.graph
    made_by = {name: node for node in graph.node for name in node.output}
    order = {name: place for place, node in enumerate(graph.node) for name in node.output}
    maps = _levels(graph, made_by)
    if maps is None:
        raise ModelError(f"detector {file}: is no YOLOX: no three levels of cells are joined in its graph")
    stems = []
    for level in maps:
        shared = set.intersection(*(_behind(each, made_by) for each in made_by[level].input))
        stems.append(max((name for name in shared if made_by[name].op_type != "Cast"), key=order.__getitem__))
    needed = set().union(*(_behind(each, made_by) for each in maps))
    nodes = [node for node in graph.node if needed & set(node.output)]
    read = {name for node in nodes for name in node.input}
    weights = [each for each in graph.initializer if each.name in read]
    del graph.node[:], graph.initializer[:], graph.value_info[:], graph.output[:]
    graph.node.extend(nodes)
    graph.initializer.extend(weights)
    graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None] * 4) for name in [*maps, *stems]
    )
    for dimension, name in zip(graph.input[0].type.tensor_type.shape.dim, ("n", "", "h", "w"), strict=True):
        if name:
            dimension.dim_param = name
    return model.SerializeToString()  # type: ignore[no-any-return]


def _levels(graph: "onnx.GraphProto", made_by: dict[str, Any]) -> list[str] | None:
    """The values (N, 5 + C, H, W) that a YOLOX flattens and joins: one for each stride."""
    for node in graph.node:
        if node.op_type != "Concat" or len(node.input) != len(STRIDES):
            continue
        flat = [made_by.get(name) for name in node.input]
        if all(each is not None and each.op_type in ("Reshape", "Flatten") for each in flat):
            levels = [each.input[0] for each in flat if each is not None]
            if all(name in made_by and made_by[name].op_type == "Concat" for name in levels):
                return levels
    return None


def _behind(name: str, made_by: dict[str, Any]) -> set[str]:
    """All values that a value is made from by nodes, itself included."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        each = waiting.pop()
        if each in made_by and each not in found:
            found.add(each)
            waiting.extend(made_by[each].input)
    return found

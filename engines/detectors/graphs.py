"""Detectors' ONNX graphs made over: our input before their nodes and our outputs behind them, for any batch.

What :mod:`engines.detectors.decoding` does in NumPy stands here as ONNX operators, so that an imported detector is a
model like any other to every backend. It needs the package ``onnx``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, compose, helper, numpy_helper, version_converter

from engines.boxes import letterbox
from engines.detectors.decoding import cell_corners
from engines.detectors.layout import BINS, END2END_COLUMNS, DetectorLayout, cells
from engines.errors import ModelError, one_line
from engines.pictures import PADDING_GREY
from engines.spec import INPUT
from engines.tasks.objects.decode import MAX_ROWS

OPSET: Final = 17  # of what is written here; a detector of a later one keeps its own
IR_VERSION: Final = 8
BATCH: Final = "batch"
OBJECTS: Final = ("object_boxes", "object_scores", "object_labels")
DETECTOR, BESIDE = "detector/", "beside/"  # before the names of their values

Values = npt.NDArray[Any] | Sequence[Any] | float
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(slots=True)
class Part:
    """Nodes and the constants that they take; ``prefix`` keeps their names apart from those of other parts."""

    prefix: str
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def constant(self, value: Values, kind: npt.DTypeLike = np.float32) -> str:
        """Return the name of a new constant."""
        name = f"{self.prefix}constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, kind), name))
        return name

    def whole(self, *numbers: int) -> str:
        """Return the name of a new constant of whole numbers."""
        return self.constant(numbers, np.int64)

    def all_of(self, kind: str, inputs: Sequence[str], outputs: int, **attributes: Any) -> list[str]:
        """Add a node; return the names of its outputs."""
        names = [f"{self.prefix}{kind}_{len(self.nodes)}_{place}" for place in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names

    def one(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; return the name of its output."""
        return self.all_of(kind, inputs, 1, **attributes)[0]

    def give(self, name: str, value: str) -> None:
        """Call a value by a name that another part or the graph knows."""
        self.nodes.append(helper.make_node("Identity", [value], [name]))

    def split(self, value: str, *sizes: int) -> list[str]:
        """Return parts of the last of three dimensions."""
        return self.all_of("Split", [value, self.whole(*sizes)], len(sizes), axis=2)

    def flat(self, value: str) -> str:
        """Return a value (N, M, 1) as (N, M)."""
        return self.one("Squeeze", value, self.whole(2))

    def corners(self, centre: str, size: str) -> str:
        """Return the corners (N, M, 4) of boxes that are told by centre and size, (N, M, 2) each."""
        half = self.one("Mul", size, self.constant(0.5))
        return self.one("Concat", self.one("Sub", centre, half), self.one("Add", centre, half), axis=2)


@dataclass(frozen=True, slots=True)
class ScoredRows:
    """Names of a graph's boxes (N, M, 4) xyxy input pixels, of their scores (N, M) and of their classes (N, M)."""

    boxes: str
    scores: str
    labels: str


@dataclass(frozen=True, slots=True)
class DetectorGraph:
    """What a detector's graph is.

    Attributes:
        model: takes batches of any length (:func:`free_batch`).
        layout: how it takes pictures and gives boxes. They are letterboxed, wherever its project would put them.
        size: width and height of its input, pixels.
        shapes: of its outputs for one picture.
        classes: how many it tells apart.
        raw: whether a YOLOX leaves the decoding of its cells to others.
    """

    model: onnx.ModelProto
    layout: DetectorLayout
    size: tuple[int, int]
    shapes: Shapes
    classes: int
    raw: bool


def free_batch(model: onnx.ModelProto, size: tuple[int, int]) -> onnx.ModelProto:
    """Return a detector's graph for pictures of one size in batches of any length.

    Exporters often write the batch of one into reshapes; there the dimension is copied from the input instead. Whoever
    calls this compares a batch with its pictures one by one.

    Raises:
        ModelError: the operators are too old to be brought to our version.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    del graph.value_info[:]
    for taken in graph.input:
        dimensions = taken.type.tensor_type.shape.dim
        dimensions[0].dim_param = BATCH
        for place, side in zip(dimensions[2:], size[::-1], strict=False):
            place.dim_value = side
    for given in graph.output:
        for dimension in given.type.tensor_type.shape.dim:
            dimension.Clear()
    known = {each.name: each for each in graph.initializer} | {
        node.output[0]: node.attribute[0].t
        for node in graph.node
        if node.op_type == "Constant" and node.attribute[0].name == "value"
    }
    for number, node in enumerate(each for each in graph.node if each.op_type == "Reshape"):
        shape = numpy_helper.to_array(known[node.input[1]]) if node.input[1] in known else np.zeros(0, np.int64)
        if len(shape) > 1 and shape[0] == 1:
            name = f"free_shape_{number}"
            graph.initializer.append(numpy_helper.from_array(np.array([0, *shape[1:]], np.int64), name))
            node.input[1] = name
    version = max((each.version for each in made.opset_import if each.domain in ("", "ai.onnx")), default=1)
    return made if version >= OPSET else _converted(made, OPSET)


def frame_entry(detector: DetectorGraph) -> onnx.ModelProto:
    """Return a frame entry that finds objects: takes pictures as our entries do, gives boxes as they do."""
    model = compose.add_prefix(detector.model, DETECTOR)
    before, behind = Part("before/"), Part("behind/")
    inputs = [each.name for each in model.graph.input]
    before.give(inputs[0], _planes(before, detector.layout))
    if len(inputs) > 1:  # the picture's size in pixels: boxes are wanted in those of the input
        count = before.one("Slice", before.one("Shape", INPUT), before.whole(0), before.whole(1))
        shape = before.one("Concat", count, before.whole(2), axis=0)
        before.give(inputs[1], before.one("Expand", before.constant([detector.size], np.int64), shape))
    rows = _rows(behind, {DETECTOR + name: shape for name, shape in detector.shapes.items()}, detector)
    _choose(behind, rows, _rows_given(detector))
    return _model(
        [*before.nodes, *model.graph.node, *behind.nodes],
        [*before.constants, *model.graph.initializer, *behind.constants],
        detector.size,
        object_shapes(detector),
        model,
    )


def beside(objects: onnx.ModelProto, own: onnx.ModelProto, shapes: Shapes) -> onnx.ModelProto:
    """Return one frame entry of two: the objects of one and all else of another.

    Args:
        objects: of :func:`frame_entry`.
        own: the frame entry of a network of ours.
        shapes: of the outputs that are wanted of it, without the batch, by name.
    """
    size, own_size = _size_of(objects), _size_of(own)
    version = max(_opset(objects), _opset(own))
    objects, own = (each if _opset(each) == version else _converted(each, version) for each in (objects, own))
    own = onnx.utils.Extractor(own).extract_model([INPUT], list(shapes))
    own = compose.add_prefix(own, BESIDE)
    before, behind = Part("own_before/"), Part("own_behind/")
    box = letterbox(size, own_size)
    before.give(BESIDE + INPUT, INPUT if size == own_size else _shrunk(before, box.scaled, box.pad, own_size))
    scale = np.asarray(size, np.float32) / np.asarray(box.scaled, np.float32)
    for name, shape in shapes.items():
        value = BESIDE + name
        if name.endswith(("_boxes", "_landmarks")):  # in pixels of its input: brought to those of the whole
            pairs = shape[-1] // 2
            moved = behind.one("Sub", value, behind.constant(np.tile(np.asarray(box.pad, np.float32), pairs)))
            value = behind.one("Mul", moved, behind.constant(np.tile(scale, pairs)))
        behind.give(name, value)
    return _model(
        [*objects.graph.node, *before.nodes, *own.graph.node, *behind.nodes],
        [*objects.graph.initializer, *before.constants, *own.graph.initializer, *behind.constants],
        size,
        {**_shapes_of(objects), **shapes},
        objects,
    )


def _planes(part: Part, layout: DetectorLayout) -> str:
    """Pictures uint8 RGB (N, H, W, 3) -> what the detector takes, (N, 3, H, W)."""
    value = part.one("Cast", INPUT, to=TensorProto.FLOAT)
    if layout.bgr:
        value = part.one("Gather", value, part.whole(2, 1, 0), axis=3)
    if any(layout.mean):
        value = part.one("Sub", value, part.constant(layout.mean))
    if layout.scale != (1.0, 1.0, 1.0):
        value = part.one("Div", value, part.constant(layout.scale))
    return part.one("Transpose", value, perm=[0, 3, 1, 2])


def _shrunk(part: Part, scaled: tuple[int, int], pad: tuple[int, int], size: tuple[int, int]) -> str:
    """Pictures uint8 RGB (N, H, W, 3) letterboxed into ``size`` (width, height), as :func:`letterbox` says."""
    planes = part.one("Transpose", part.one("Cast", INPUT, to=TensorProto.FLOAT), perm=[0, 3, 1, 2])
    sizes = part.one("Concat", part.one("Slice", part.one("Shape", planes), part.whole(0), part.whole(2)),
                     part.whole(*scaled[::-1]), axis=0)  # fmt: skip
    small = part.one("Resize", planes, "", "", sizes, mode="linear", coordinate_transformation_mode="half_pixel")
    left, top = pad
    right, bottom = size[0] - scaled[0] - left, size[1] - scaled[1] - top
    if any((left, top, right, bottom)):
        around = part.whole(0, 0, top, left, 0, 0, bottom, right)
        small = part.one("Pad", small, around, part.constant(float(PADDING_GREY)))
    return part.one("Cast", part.one("Transpose", part.one("Round", small), perm=[0, 2, 3, 1]), to=TensorProto.UINT8)


def _rows(part: Part, outputs: Shapes, detector: DetectorGraph) -> ScoredRows:
    """Boxes, best scores and classes of all rows of the detector's outputs; :func:`decode_outputs` in ONNX."""
    layout, classes, names = detector.layout.name, detector.classes, list(outputs)
    if layout == "rtdetr":
        of = {name.removeprefix(DETECTOR): name for name in names}
        return _known(part, of["boxes"], of["scores"], of["labels"], classes)
    if layout == "detr":
        return _detr(part, outputs, detector)
    value, columns = names[0], outputs[names[0]][2]
    if layout == "end2end":
        boxes, scores, labels = part.split(value, 4, 1, 1)
        return _known(part, boxes, part.flat(scores), part.flat(labels), classes)
    if layout == "nanodet":
        scores, distances = part.split(value, classes, columns - classes)
        return _best(part, _from_distributions(part, distances, detector), scores)
    if layout == "yolov8":
        centre, size, scores = part.split(part.one("Transpose", value, perm=[0, 2, 1]), 2, 2, classes)
        return _best(part, part.corners(centre, size), scores)
    centre, size, certain, scores = part.split(value, 2, 2, 1, classes)
    if detector.raw:
        corner, stride = cell_corners(detector.size, 3)
        centre = part.one("Mul", part.one("Add", centre, part.constant(corner)), part.constant(stride))
        size = part.one("Mul", part.one("Exp", size), part.constant(stride))
    return _best(part, part.corners(centre, size), part.one("Mul", scores, certain))


def _detr(part: Part, outputs: Shapes, detector: DetectorGraph) -> ScoredRows:
    """Boxes as shares of the input: beside logits, or in front of scores, or of a score and a class."""
    sides = part.constant(np.asarray(detector.size, np.float32))

    def pixels(boxes: str) -> str:
        centre, size = part.split(boxes, 2, 2)
        return part.corners(part.one("Mul", centre, sides), part.one("Mul", size, sides))

    if len(outputs) > 1:
        boxes = next(name for name, shape in outputs.items() if shape[2] == 4)
        logits = next(name for name in outputs if name != boxes)
        scores = part.one("Sigmoid", logits)
        if (spare := outputs[logits][2] - detector.classes) > 0:  # "nothing", behind the classes
            scores = part.split(scores, detector.classes, spare)[0]
        return _best(part, pixels(boxes), scores)
    ((name, shape),) = outputs.items()
    if shape[2] == END2END_COLUMNS and detector.classes != END2END_COLUMNS - 4:
        boxes, score, label = part.split(name, 4, 1, 1)
        return _known(part, pixels(boxes), part.flat(score), part.flat(label), detector.classes)
    boxes, scores = part.split(name, 4, detector.classes)
    return _best(part, pixels(boxes), scores)


def _from_distributions(part: Part, distances: str, detector: DetectorGraph) -> str:
    """Boxes from distributions over the distance to each side (generalised focal loss, Li et al. 2020)."""
    count = _count(detector)
    levels = 4 if count == cells(detector.size, 4) else 3
    corner, stride = cell_corners(detector.size, levels)
    centre = part.constant((corner if levels == 4 else corner + 0.5) * stride)
    shares = part.one("Softmax", part.one("Reshape", distances, part.whole(0, count, 4, BINS)), axis=3)
    mean = part.one("MatMul", shares, part.constant(np.arange(BINS, dtype=np.float32)[:, None]))
    reach = part.one("Mul", part.one("Squeeze", mean, part.whole(3)), part.constant(stride))
    low, high = part.split(reach, 2, 2)
    return part.one("Concat", part.one("Sub", centre, low), part.one("Add", centre, high), axis=2)


def _best(part: Part, boxes: str, scores: str) -> ScoredRows:
    """The best class of each row of scores (N, M, C)."""
    best, labels = part.all_of("TopK", [scores, part.whole(1)], 2, axis=2)
    return ScoredRows(boxes, part.flat(best), part.flat(labels))


def _known(part: Part, boxes: str, scores: str, labels: str, classes: int) -> ScoredRows:
    """ScoredRows whose class is told by its number; those beyond the classes score nothing."""
    numbers = part.one("Cast", labels, to=TensorProto.INT64)
    low = part.one("GreaterOrEqual", numbers, part.constant(0, np.int64))
    known = part.one("And", low, part.one("Less", numbers, part.constant(classes, np.int64)))
    return ScoredRows(boxes, part.one("Where", known, scores, part.constant(0.0)), numbers)


def _choose(part: Part, rows: ScoredRows, count: int) -> None:
    """Give the best rows under the names of our outputs."""
    scores, places = part.all_of("TopK", [rows.scores, part.whole(count)], 2, axis=1)
    wide = part.one("Expand", part.one("Unsqueeze", places, part.whole(2)), part.whole(1, 1, 4))
    labels = part.one("GatherElements", rows.labels, places, axis=1)
    part.give("object_boxes", part.one("GatherElements", rows.boxes, wide, axis=1))
    part.give("object_scores", scores)
    part.give("object_labels", part.one("Cast", labels, to=TensorProto.INT32))


def object_shapes(detector: DetectorGraph) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the made graph's outputs, without the batch."""
    count = _rows_given(detector)
    return dict(zip(OBJECTS, ((count, 4), (count,), (count,)), strict=True))


def _rows_given(detector: DetectorGraph) -> int:
    return min(MAX_ROWS, _count(detector))


def _count(detector: DetectorGraph) -> int:
    """ScoredRows that the detector gives of a picture."""
    name = detector.layout.name
    shape = next(shape for shape in detector.shapes.values() if len(shape) > (1 if name == "rtdetr" else 2))
    return shape[2] if name == "yolov8" else shape[1]


def _model(
    nodes: Sequence[onnx.NodeProto],
    constants: Sequence[onnx.TensorProto],
    size: tuple[int, int],
    outputs: Shapes,
    like: onnx.ModelProto,
) -> onnx.ModelProto:
    taken = helper.make_tensor_value_info(INPUT, TensorProto.UINT8, [BATCH, size[1], size[0], 3])
    given = [
        helper.make_tensor_value_info(
            name, TensorProto.INT32 if name == "object_labels" else TensorProto.FLOAT, [BATCH, *shape]
        )
        for name, shape in outputs.items()
    ]
    graph = helper.make_graph(list(nodes), "frame", [taken], given, list(constants))
    made = helper.make_model(graph, opset_imports=list(like.opset_import), ir_version=max(IR_VERSION, like.ir_version))
    try:
        onnx.checker.check_model(made)
    except onnx.checker.ValidationError as error:
        raise ModelError(f"the detector's graph cannot be made into an entry: {one_line(error)}") from error
    return made


def _converted(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
    try:
        return version_converter.convert_version(model, version)
    except Exception as error:  # the converter raises RuntimeError and classes of its own for what it does not know
        raise ModelError(
            f"the detector's operators (ONNX opset {_opset(model)}) cannot be brought to opset {version}; export it "
            f"anew with that: {one_line(error)}"
        ) from error


def _opset(model: onnx.ModelProto) -> int:
    return next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), 1)


def _shapes_of(entry: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Shapes of an entry's outputs, without the batch."""
    given = {each.name: each.type.tensor_type.shape.dim for each in entry.graph.output}
    return {name: tuple(place.dim_value for place in dimensions[1:]) for name, dimensions in given.items()}


def _size_of(entry: onnx.ModelProto) -> tuple[int, int]:
    """Width and height of an entry's input."""
    dimensions = entry.graph.input[0].type.tensor_type.shape.dim
    return dimensions[2].dim_value, dimensions[1].dim_value

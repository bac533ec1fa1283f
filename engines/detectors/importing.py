"""A detector's ONNX file -> a model folder that runs like ours, alone or beside one of our networks."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import onnx

from engines.any_size import fixed_size
from engines.arrays import Pixels
from engines.detectors import graphs
from engines.detectors.decoding import SMALL
from engines.detectors.detector import ObjectDetector, open_detector, output_shapes
from engines.detectors.layout import STRIDES, LayoutName
from engines.errors import ModelError, one_line
from engines.pages import render
from engines.spec import (
    INPUT,
    EntrySpec,
    ImportedDetector,
    Model,
    ModelSpec,
    NetworkSettings,
    Thresholds,
    load_model,
    sha256_of,
    write_spec,
)

FRAME_FILE = "frame.onnx"
PICTURES = 3  # compared; more than one, so that a batch whose pictures are mixed up shows
ONE_AT_A_TIME = "runs on one picture at a time only; export it with a dynamic batch"
SCORE_GAP, BOX_GAP_PX = 1e-3, 0.5  # allowed between the graph and NumPy's decoding of what the file itself gives


def import_detector(
    file: Path,
    out: Path,
    *,
    name: str | None = None,
    beside: Model | None = None,
    layout: LayoutName | None = None,
    names: Sequence[str] = (),
    bgr: bool | None = None,
    size: tuple[int, int] | None = None,
    thresholds: Mapping[str, float] | None = None,
) -> Model:
    """Make a model folder of a detector's file.

    Args:
        file: the detector, ONNX.
        out: the folder to make.
        name: of the model; None: the file's.
        beside: a model whose other tasks the folder has, too; None: objects alone.
        layout: as for :func:`engines.detectors.detector.open_detector`, and so are the next three.
        names: of its classes.
        bgr: whether it takes blue first.
        size: width and height of an input that the file leaves open, pixels.
        thresholds: ``object_score`` and ``object_iou`` where they differ from the usual ones.

    Raises:
        ModelError: the file is no detector that is known, its graph holds for one picture at a time only, what the made
            graph gives differs from what the file gives, or there is something in ``out``.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ModelError(f"OUT {out}: is there already; name a folder that is new or empty")
    detector = open_detector(file, layout=layout, names=names, bgr=bgr, size=size, threads=1)
    if len(set(detector.names)) != len(detector.names):
        raise ModelError(f"detector {file}: two of its classes have one name; say what they are called with --names")
    made, shapes = _made(detector, file, beside)
    _compare(made, detector, file)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as folder:
        part = Path(folder)
        onnx.save(made, part / FRAME_FILE)
        if beside and beside.spec.face:
            shutil.copyfile(beside.file("face", "f32"), part / beside.spec.face.file)
        width, height = detector.size
        frame = EntrySpec(FRAME_FILE, sha256_of(part / FRAME_FILE), height, width, shapes)
        spec = _spec(detector, file, name, frame, beside, thresholds or {})
        write_spec(spec, part)
        (part / "MODEL_CARD.md").write_text(_card(spec, detector), encoding="utf-8")
        load_model(part)
        out.mkdir(exist_ok=True)
        for each in sorted(part.iterdir(), key=lambda path: path.name == "spec.json"):  # what makes it a model is last
            each.replace(out / each.name)
    return load_model(out)


def _spec(
    detector: ObjectDetector,
    file: Path,
    name: str | None,
    frame: EntrySpec,
    beside: Model | None,
    thresholds: Mapping[str, float],
) -> ModelSpec:
    own = beside.spec if beside else None
    return ModelSpec(
        format=1,
        name=name or file.stem,
        frame=frame,
        face=own.face if own else None,
        objects=detector.names,
        scenes=own.scenes if own else (),
        network=own.network if own else NetworkSettings(tasks=("objects",)),
        thresholds=_thresholds(detector, own.thresholds if own else Thresholds(), thresholds),
        identity_calibration=own.identity_calibration if own else None,
        imported=ImportedDetector(
            file=file.name,
            sha256=sha256_of(file),
            layout=detector.layout.name,
            beside=own.name if own else None,
            faces_of=beside.fingerprint if beside else None,
        ),
    )


def _card(spec: ModelSpec, detector: ObjectDetector) -> str:
    layout = detector.layout
    mean, scale = (", ".join(f"{part:g}" for part in each) for each in (layout.mean, layout.scale))
    return render("engines.detectors", "card.md.j2", spec=spec, bgr=layout.bgr, mean=mean, scale=scale)


def _thresholds(detector: ObjectDetector, others: Thresholds, given: Mapping[str, float]) -> Thresholds:
    usual = Thresholds()
    # A transformer's boxes are suppressed by itself: overlapping ones are of two objects.
    overlap = 1.0 if detector.suppresses else usual.object_iou
    others = msgspec.structs.replace(others, object_scores=None, object_curves=None)  # which were of other objects
    return msgspec.structs.replace(others, **{"object_score": usual.object_score, "object_iou": overlap, **given})


def _made(
    detector: ObjectDetector, file: Path, own: Model | None
) -> tuple[onnx.ModelProto, dict[str, tuple[int, ...]]]:
    """The frame entry, and its outputs' shapes."""
    given = output_shapes(detector.session, detector.size, file)
    graph = graphs.DetectorGraph(
        graphs.free_batch(onnx.load(file), detector.size),
        detector.layout,
        detector.size,
        given,
        len(detector.names),
        detector.layout.name == "yolox" and _raw(detector),
    )
    made = graphs.frame_entry(graph)
    shapes = graphs.object_shapes(graph)
    if own is None:
        return made, shapes
    others = {name: shape for name, shape in own.spec.entry("frame").outputs.items() if name not in graphs.OBJECTS}
    if not others:
        raise ModelError(f"model {own.path}: finds objects alone; there is nothing to have beside a detector")
    entry = own.spec.entry("frame")
    ours = fixed_size(onnx.load(own.file("frame", "f32")), entry.height, entry.width)
    return graphs.beside(made, ours, others), shapes | others


def _raw(detector: ObjectDetector) -> bool:
    """Whether a YOLOX gives its boxes in cells."""
    boxes = detector.outputs(_pictures(detector.size)[0], detector.size)[0][0, :, :2]
    return bool(np.abs(boxes).max(initial=0.0) <= SMALL * max(detector.size) / STRIDES[0])


def _pictures(size: tuple[int, int]) -> Pixels:
    """Made pictures (N, H, W, 3) of blots, each unlike the others."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (PICTURES, -(-size[1] // 16), -(-size[0] // 16), 3), np.uint8)
    return np.ascontiguousarray(coarse.repeat(16, 1).repeat(16, 2)[:, : size[1], : size[0]])


def _compare(made: onnx.ModelProto, detector: ObjectDetector, file: Path) -> None:
    """Raise ModelError unless a batch gives, row by row, what the file gives for each picture and NumPy decodes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    pictures = _pictures(detector.size)
    try:
        session = onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
        boxes, scores, labels = session.run(list(graphs.OBJECTS), {INPUT: pictures})
    except Exception as error:  # ONNX Runtime raises classes of its own for each kind of damage
        raise ModelError(f"detector {file}: {ONE_AT_A_TIME}: {one_line(error)}") from error
    if not len(boxes) == len(scores) == len(labels) == len(pictures):
        raise ModelError(f"detector {file}: {ONE_AT_A_TIME}")
    for place, picture in enumerate(pictures):
        found = detector.candidates(picture, detector.size)
        best = found.scores.max(1)
        expected = np.sort(best)[::-1][: scores.shape[1]]
        near = np.abs(best[None] - scores[place][:, None]) <= SCORE_GAP
        apart = np.abs(found.boxes[None] - boxes[place][:, None]).max(2)
        same = best[None] - SCORE_GAP <= found.scores[:, labels[place]].T
        gap = float(np.where(near & same, apart, np.inf).min(1).max())
        score_gap = float(np.abs(scores[place] - expected).max(initial=0.0))
        if not (score_gap <= SCORE_GAP and gap <= BOX_GAP_PX):
            raise ModelError(
                f"detector {file}: as a {detector.layout.name} its graph gives other boxes in a batch than the file "
                f"gives alone (scores differ by {score_gap:.2g}, boxes by {gap:.3g} pixels); export it with a dynamic "
                "batch, or say its --layout"
            )

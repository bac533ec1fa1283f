"""The model card: what a model is, what it was made from and what it can do, with the figures that were measured."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from engines.compiling.parity import Parity
from engines.compiling.quantise import Form
from engines.evaluation.report import EvaluationReport
from engines.network.cost import cost, share_of_single_tasks
from engines.pages import render
from engines.spec import Model, Quantised, Task
from engines.training.checkpoint import Checkpoint
from engines.training.settings import DatasetSettings

SEEN: dict[Task, str] = {
    "objects": "objects",
    "faces": "faces with five landmarks",
    "scene": "a scene class",
    "identity": "an identity embedding and a quality",
}
# What is known of the sets that the project's own models were trained on, by their folder.
TERMS = {
    "detection": "Pascal VOC 2007 (20 classes): flickr terms, research; apple, banana, orange: MIT. Object boxes by "
    "hand; faces and five points by YuNet-n (machine-made)",
    "face_detection": "ILC 2021 face masks, MaskON: no licence stated. Face boxes by hand, points by YuNet-n "
    "(machine-made)",
    "face_landmarks": "P1_Facial_Keypoints: MIT; YouTube Faces frames: research. Box and points hand-checked",
    "face_recognition": "LFW, YouTube Faces: research; Bollywood celebrities: no licence stated",
    "classification": "imagenette (ten ImageNet classes), cats and dogs: ImageNet terms, research",
}
WEAKNESSES: dict[Task, str] = {
    "objects": "Small objects and crowded scenes are missed.",
    "faces": "Faces below about 20 pixels, in profile or upside down are missed.",
    "scene": "The scene class is always one of those above, whatever the picture shows.",
    "identity": "People who look alike are taken for each other; the model was not audited for bias, and knows people "
    "unlike those it learned from less well.",
}
HEADINGS: dict[Form, str] = {"cpu": "int8", "tensorrt": "int8 for TensorRT"}


def model_card(
    model: Model, saved: Checkpoint, report: EvaluationReport, parity: Sequence[Parity], note: str = ""
) -> str:
    """Markdown of ``MODEL_CARD.md``; ``note`` tells what else a reader must know of the training."""
    spec = model.spec
    tasks = [task for task in SEEN if task in spec.network.tasks]
    size = (spec.frame.height, spec.frame.width) if spec.frame else None
    shape = spec.network, len(spec.objects), len(spec.scenes), size
    return render(
        "engines.compiling",
        "card.md.j2",
        spec=spec,
        fingerprint=model.fingerprint,
        tasks=tasks,
        seen=[SEEN[task] for task in tasks if task != "identity"],
        cost=cost(*shape),
        share=share_of_single_tasks(*shape) if len(tasks) > 1 else None,
        saved=saved,
        settings=saved.settings,
        note=note,
        sets=[_set(each) for each in saved.settings.datasets],
        report=report,
        objects=report.objects,
        faces=report.faces,
        scene=report.scene,
        identity=report.identity,
        parity=parity,
        weaknesses=[WEAKNESSES[task] for task in tasks],
        worst=[(task, names) for task, names in _worst(report) if names],
    )


def _set(entry: DatasetSettings) -> dict[str, object]:
    """A set's labels, where its pictures lie, and what is known of their terms."""
    folders = [folder for source in (entry.scene, entry.identity) if source for folder in source.folders]
    folders += [entry.images] if entry.images else []
    return {
        "name": entry.name,
        "labels": [task for task in SEEN if getattr(entry, task) is not None],
        "folders": folders,
        "terms": list(dict.fromkeys(TERMS.get(folder.split("/")[0], "terms not known") for folder in folders)),
    }


def _worst(report: EvaluationReport) -> Iterator[tuple[str, list[str]]]:
    """The files of the worst pictures of each task."""
    if report.objects:
        yield "objects", [_short(each.picture) for each in report.objects.worst]
    if report.faces:
        yield "faces", [_short(each.picture) for each in report.faces.worst]
        yield "landmarks", [_short(each.picture) for each in report.faces.nme_worst]
    if report.scene:
        yield "scene", [_short(each.picture) for each in report.scene.worst]
    if report.identity:
        yield "identity", [f"{_short(each.first)} and {_short(each.second)}" for each in report.identity.worst]


def _short(file: str) -> str:
    """A file's name with the folder that it lies in, which is whom or what it shows."""
    return "/".join(Path(file).parts[-2:])


def with_int8(card: str, int8: Quantised, form: Form) -> str:
    """The card with the section that tells what the int8 files of a form cost each task, in place of an older one."""
    parts = card.split("\n## ")
    kept = [part for part in parts if part.split("\n", 1)[0] != HEADINGS[form]]
    return "\n## ".join(kept) + render("engines.compiling", "int8.md.j2", heading=HEADINGS[form], int8=int8)

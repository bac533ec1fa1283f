"""The model card: what a model is, what it was made from and what it can do, with the figures that were measured."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from engines.compiling.parity import Parity
from engines.compiling.quantise import Form
from engines.evaluation.detection import SourceScores
from engines.evaluation.parts import MetricsPart, Scores, metrics_part
from engines.evaluation.report import EvaluationReport
from engines.network.cost import cost, share_of_single_tasks
from engines.pages import render
from engines.spec import Model, Quantised
from engines.tasks import REGISTRY
from engines.training.checkpoint import Checkpoint
from engines.training.settings import DatasetSettings

# What is known of the sets that the project's own models were trained on, by their folder.
TERMS = {
    "detection": "Pascal VOC 2007 (20 classes): flickr terms, research; apple, banana, orange: MIT. Object boxes by "
    "hand, those of other classes by YOLOX-nano (machine-made); faces and five points by YuNet-n (machine-made)",
    "face_detection": "ILC 2021 face masks, MaskON: no licence stated. Face boxes by hand, points by YuNet-n, "
    "objects by YOLOX-nano (machine-made)",
    "face_landmarks": "P1_Facial_Keypoints: MIT; YouTube Faces frames: research. Box and points hand-checked",
    "face_recognition": "LFW, YouTube Faces: research; Bollywood celebrities: no licence stated. Embeddings of dlib's "
    "face network as teacher",
    "classification": "imagenette (ten ImageNet classes), cats and dogs: ImageNet terms, research",
    "detection_cameras": "Level2-FSD, ATL, CCTV and Capston sets of Roboflow: CC BY 4.0; Open Images vehicles: CC BY; "
    "DAWN: research; pedestrian behaviour: no licence stated. Boxes by hand for the classes that a picture covers, "
    "else by YOLOX-nano (machine-made); faces by CenterFace (machine-made)",
    "face_recognition_celeba": "CelebA: non-commercial research. Embeddings of dlib's face network as teacher",
    "places": "MiniPlaces, a hundred categories of Places: research",
    "outdoors": "every fifth picture of places, the first 11,600. Objects by YOLOX-nano (machine-made)",
    "rooms": "room-classification, six kinds of rooms of Places365: research. Objects by YOLOX-nano (machine-made)",
    "sports": "Leeds Sports Pose, extended (flickr): research. Objects by YOLOX-nano (machine-made)",
}
HEADINGS: dict[Form, str] = {"cpu": "int8", "tensorrt": "int8 for TensorRT"}


def model_card(
    model: Model, saved: Checkpoint, report: EvaluationReport, parity: Sequence[Parity], note: str = ""
) -> str:
    """Markdown of ``MODEL_CARD.md``; ``note`` tells what else a reader must know of the training."""
    spec = model.spec
    tasks = [each for each in REGISTRY if each.name in spec.network.tasks]
    scored = [(metrics_part(each), found) for each in tasks if (found := report.of(each.name)) is not None]
    size = (spec.frame.height, spec.frame.width) if spec.frame else None
    shape = spec.network, len(spec.objects), len(spec.scenes), size
    return render(
        "engines.compiling",
        "card.md.j2",
        spec=spec,
        fingerprint=model.fingerprint,
        tasks=[each.name for each in tasks],
        seen={entry: [each.gives for each in tasks if each.entry == entry] for entry in ("frame", "face")},
        cost=cost(*shape),
        share=share_of_single_tasks(*shape) if len(tasks) > 1 else None,
        saved=saved,
        settings=saved.settings,
        note=note,
        sets=[_set(each) for each in saved.settings.datasets],
        report=report,
        figures=[row for part, scores in scored for row in part.rows(scores)],
        further=[
            (name, [row for each in tasks if (found := other.of(each.name)) for row in metrics_part(each).rows(found)])
            for name, other in report.sets.items()
        ],
        sources=list(_sources(report)),
        parity=parity,
        weaknesses=[each.weakness for each in tasks],
        worst=[(what, names) for part, scores in scored for what, names in _worst(part, scores) if names],
    )


def _sources(report: EvaluationReport) -> Iterator[tuple[str, str, str, SourceScores]]:
    """Set, task, source and figures of every source of pictures with boxes."""
    for name, scored in {"validation": report, **report.sets}.items():
        for task in REGISTRY:
            for source, figures in getattr(scored.of(task.name), "by_source", {}).items():
                yield name, task.name, source, figures


def _set(entry: DatasetSettings) -> dict[str, object]:
    """A set's labels, where its pictures lie, and what is known of their terms."""
    folders = [folder for source in (entry.scene, entry.identity) if source for folder in source.folders]
    folders += [entry.images] if entry.images else []
    folders += [table["images"] for table in entry.labels.values() if "images" in table]
    return {
        "name": entry.name,
        "labels": list(entry.labelled),
        "folders": folders,
        "terms": list(dict.fromkeys(TERMS.get(folder.split("/")[0], "terms not known") for folder in folders)),
    }


def _worst(part: MetricsPart, scores: Scores) -> Iterator[tuple[str, list[str]]]:
    """The files of the worst pictures, or pairs of them, of a task."""
    for what, found in part.worst(scores).items():
        yield what, [" and ".join(map(_short, pictures)) for pictures in found]


def _short(file: str) -> str:
    """A file's name with the folder that it lies in, which is whom or what it shows."""
    return "/".join(Path(file).parts[-2:])


def with_int8(card: str, int8: Quantised, form: Form) -> str:
    """The card with the section that tells what the int8 files of a form cost each task, in place of an older one."""
    parts = card.split("\n## ")
    kept = [part for part in parts if part.split("\n", 1)[0] != HEADINGS[form]]
    return "\n## ".join(kept) + render("engines.compiling", "int8.md.j2", heading=HEADINGS[form], int8=int8)

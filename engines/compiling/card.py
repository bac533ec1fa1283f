"""The model card: what a model is, what it was made from and what it can do, with the figures that were measured."""

from collections.abc import Sequence
from pathlib import Path

from engines.compiling.parity import Parity
from engines.compiling.quantise import Form
from engines.evaluation.bootstrap import Interval
from engines.evaluation.report import Report
from engines.network.cost import cost, share_of_single_tasks
from engines.spec import GateFigure, Model, ModelSpec, Quantised, Task
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


def model_card(model: Model, saved: Checkpoint, report: Report, parity: Sequence[Parity], note: str = "") -> str:
    """Markdown of ``MODEL_CARD.md``; ``note`` tells what else a reader must know of the training."""
    spec, settings = model.spec, saved.settings
    return f"""# Trunkline model {spec.name}

{_entries(spec)} Fingerprint `{model.fingerprint}`.

**For research and evaluation only.** Some training data may have no stated licence. Do not use this model to make
decisions about people. It names people only from a gallery that its user enrols; nothing of whom it was trained on is
in it but its weights.

## Cost

{_cost(spec)}
## Training

`{settings.name}`: {saved.step} of {settings.steps} steps in {saved.seconds / 3600:.1f} hours, seed {settings.seed},
{settings.precision}, one run (no spread is known). Temperature {settings.temperature:g} over the sets below.

{f"{note}{chr(10) * 2}" if note else ""}{_data(settings.datasets)}
## Figures

On the validation splits, from the ONNX files on {report.backend} {report.precision}, through the pipeline's own
letterbox, decode, NMS and alignment. The thresholds in `spec.json` and the temperature of the scene's probabilities
were chosen on the same splits, so figures that use them (NME, end-to-end accuracy, ECE) are a little flattering; AP,
top-1 and the ten-fold accuracy do not depend on them.

The intervals are 95 % bootstrap intervals over {report.bootstrap.resamples} resamples of the pictures or people.

{_figures(report)}
{_identity_threshold(spec)}{_labels(spec)}
## Parity with PyTorch (f32)

{_parity(parity)}
## Known weaknesses

{" ".join(WEAKNESSES[task] for task in SEEN if task in spec.network.tasks)}

The worst pictures of the validation data, by their files; `trunkline evaluate --plots DIR` draws them.

{_worst(report)}"""


def with_int8(card: str, int8: Quantised, form: Form) -> str:
    """The card with the section that tells what the int8 files of a form cost each task, in place of an older one."""
    parts = card.split("\n## ")
    kept = [part for part in parts if part.split("\n", 1)[0] != HEADINGS[form]]
    return "\n## ".join(kept) + _int8_section(int8, form)


def _int8_section(int8: Quantised, form: Form) -> str:
    rows = "".join(
        f"| {each.task} {each.figure} | {each.backend} | {_arithmetic(each)} | {each.f32:.4f} | {each.int8:.4f} "
        f"| {each.loss:+.2%} |\n"
        for each in int8.figures
    )
    files = "".join(
        f"* `{each.file}`: {each.layers - len(each.float_layers)} of {each.layers} layers in int8, calibrated on "
        f"{sum(each.calibrated_on.values())} training pictures.\n"
        for each in int8.files.values()
    )
    return (
        f"\n## {HEADINGS[form]}\n\n"
        f"Static QDQ files that lose no more than {int8.tolerance:.0%} of any task's figure.\n\n{files}\n"
        f"| figure | engine | instructions | f32 | int8 | loss |\n|---|---|---|---|---|---|\n{rows}"
    )


def _arithmetic(figure: GateFigure) -> str:
    return f"{figure.instructions or '-'}{', simulated' if figure.simulated else ''}"


def _entries(spec: ModelSpec) -> str:
    """A sentence on each entry."""
    tasks = [task for task in SEEN if task in spec.network.tasks]
    sentences = [f"A network for {_listed(tasks)}."]
    if spec.frame is not None:
        seen = _listed([SEEN[task] for task in tasks if task != "identity"])
        sentences.append(f"Its frame entry takes whole pictures ({spec.frame.width}x{spec.frame.height}) to {seen}.")
    if spec.face is not None:
        size = f"{spec.face.width}x{spec.face.height}"
        sentences.append(
            f"Its face entry takes aligned faces ({size}) to {SEEN['identity']}, {spec.network.embedding} numbers long."
        )
    return " ".join(sentences)


def _identity_threshold(spec: ModelSpec) -> str:
    """A sentence on what the threshold stands for, where that is known."""
    known = spec.identity_calibration
    if known is None:
        return ""
    return (
        f"A face track is someone from a cosine of {spec.thresholds.identity_similarity:.3f} on: then at most "
        f"{known.false_accept_rate:.1%} of strangers' tracks\nare given a name from a gallery of {known.people}.\n\n"
    )


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _cost(spec: ModelSpec) -> str:
    size = (spec.frame.height, spec.frame.width) if spec.frame else None
    shape = spec.network, len(spec.objects), len(spec.scenes), size
    found = cost(*shape)
    rows = "".join(
        f"| {entry} | {name} | {part.macs / 1e6:.1f} M | {part.parameters / 1e6:.3f} M |\n"
        for entry, parts in found.entries.items()
        for name, part in parts.items()
    )
    tasks = len(spec.network.tasks)
    compared = (
        f"The multiply-accumulates are {share_of_single_tasks(*shape):.2f} of those of {tasks} networks of the same "
        "shape, one for each task.\n"
    )
    return (
        "Multiply-accumulates (convolutions and linear layers) for one picture through each entry, and parameters.\n"
        "The trunk's convolutions serve every entry: their parameters count once in the sum.\n\n"
        "| entry | part | multiply-accumulates | parameters |\n|---|---|---|---|\n"
        f"{rows}| all | | {found.macs / 1e6:.1f} M | {found.parameters / 1e6:.3f} M |\n\n"
        f"{compared if tasks > 1 else ''}"
    )


def _data(datasets: Sequence[DatasetSettings]) -> str:
    rows = []
    for each in datasets:
        labels = {"objects": each.objects, "faces": each.faces, "scene": each.scene, "identity": each.identity}
        labelled = ", ".join(task for task, source in labels.items() if source is not None)
        folders = [folder for source in (each.scene, each.identity) if source for folder in source.folders]
        folders += [each.images] if each.images else []
        terms = "; ".join(dict.fromkeys(TERMS.get(folder.split("/")[0], "terms not known") for folder in folders))
        rows.append(f"| {each.name} | {labelled} | {', '.join(folders)} | {terms} |\n")
    return f"| set | labels | pictures | source and terms |\n|---|---|---|---|\n{''.join(rows)}"


def _figures(report: Report) -> str:
    objects, faces, scene, identity = report.objects, report.faces, report.scene, report.identity
    rows: list[tuple[str, float | None, Interval | None]] = []
    if objects:
        rows += [
            ("objects AP", objects.ap, objects.intervals.get("ap")),
            ("objects AP50", objects.ap50, objects.intervals.get("ap50")),
            ("person AP50", objects.person_ap50, objects.intervals.get("person_ap50")),
        ]
    if faces:
        rows += [
            ("faces AP50", faces.ap50, faces.intervals.get("ap50")),
            ("landmarks NME (of the distance between the eyes)", faces.nme, faces.intervals.get("nme")),
            ("landmarks NME (of the face box's size)", faces.nme_box, faces.intervals.get("nme_box")),
        ]
    if scene:
        rows += [
            ("scene top-1", scene.top1, scene.intervals.get("top1")),
            ("scene top-5", scene.top5, scene.intervals.get("top5")),
            ("scene ECE", scene.ece, scene.intervals.get("ece")),
        ]
    if identity:
        drawn = identity.intervals
        rows += [
            (f"verification accuracy on {identity.headline}", identity.accuracy, drawn.get("accuracy")),
            (
                "the same end to end: found, aligned and embedded by the model",
                identity.accuracy_end_to_end,
                drawn.get("accuracy_end_to_end"),
            ),
            ("true-accept rate at a false-accept rate of 1e-2", identity.tar_at_far_2, drawn.get("tar_at_far_1e-2")),
            (
                "rank-1 identification at a false-alarm rate of 1e-1",
                identity.dir_at_far_1,
                drawn.get("dir_at_far_1e-1"),
            ),
        ]
    table = "".join(f"| {name} | {_number(value)} | {_interval(interval)} |\n" for name, value, interval in rows)
    return f"| figure | value | 95 % |\n|---|---|---|\n{table}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(interval: Interval | None) -> str:
    return "-" if interval is None else f"{interval.low:.3f} to {interval.high:.3f}"


def _worst(report: Report) -> str:
    """The files of the worst pictures of each task, a line each."""
    found: list[tuple[str, Sequence[str]]] = []
    if report.objects:
        found.append(("objects", [_short(each.picture) for each in report.objects.worst]))
    if report.faces:
        found.append(("faces", [_short(each.picture) for each in report.faces.worst]))
        found.append(("landmarks", [_short(each.picture) for each in report.faces.nme_worst]))
    if report.scene:
        found.append(("scene", [_short(each.picture) for each in report.scene.worst]))
    if report.identity:
        found.append(
            ("identity", [f"{_short(each.first)} and {_short(each.second)}" for each in report.identity.worst])
        )
    return "".join(f"* {task}: {', '.join(names)}\n" for task, names in found if names)


def _short(file: str) -> str:
    """A file's name with the folder that it lies in, which is whom or what it shows."""
    return "/".join(Path(file).parts[-2:])


def _labels(spec: ModelSpec) -> str:
    lines = []
    if "objects" in spec.network.tasks:
        lines.append(f"Objects: {', '.join(spec.objects)}.\n")
    if "scene" in spec.network.tasks:
        lines.append(f"Scenes: {', '.join(spec.scenes)}.\n")
    return "".join(lines)


def _parity(found: Sequence[Parity]) -> str:
    names = list(found[0].summary)
    rows = "".join(f"| {' | '.join([each.backend, *each.summary.values()])} |\n" for each in found)
    return f"| backend | {' | '.join(names)} |\n|---|{'---|' * len(names)}\n{rows}"

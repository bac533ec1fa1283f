"""The model card: what a model is, what it was made from and what it can do, with the figures that were measured."""

from collections.abc import Sequence

from engines.compiling.parity import Parity
from engines.evaluation.report import Report
from engines.spec import Model
from engines.training.settings import TrainingSettings

DATA = """\
| set | what | labels used | source and terms |
|---|---|---|---|
| detection | Pascal VOC 2007 (20 classes), apple, banana, orange | object boxes by hand; faces and five points by \
YuNet-n (machine-made) | flickr terms, research; fruit_recognition: MIT |
| face_detection | groups and streets, many masks | face boxes by hand, points by YuNet-n (machine-made) | \
ILC 2021 face masks, MaskON: no licence stated |
| face_landmarks | one face a picture | box and five points, hand-checked | P1_Facial_Keypoints: MIT; YouTube Faces \
frames, research |
| face_recognition | LFW, YouTube Faces, Bollywood celebrities | identities | research; Bollywood: no licence stated |
| classification | imagenette (ten ImageNet classes), cats and dogs | scene class | ImageNet terms, research |
"""


def model_card(
    model: Model,
    settings: TrainingSettings,
    step: int,
    parameters: int,
    report: Report,
    parity: Sequence[Parity],
    note: str = "",
) -> str:
    """Markdown of ``MODEL_CARD.md``; ``note`` tells what else a reader must know of the training."""
    spec = model.spec
    return f"""# Trunkline model {spec.name}

One multi-task network with {parameters / 1e6:.2f} million parameters and two entries: whole frames \
({spec.frame.width}x{spec.frame.height}) to objects, faces with five landmarks and a scene class; aligned faces \
({spec.face.width}x{spec.face.height}) to a {spec.network.embedding}-d identity embedding and a quality. Fingerprint \
`{model.fingerprint}`.

**For research and evaluation only.** The training data are research sets; some have no stated licence. Do not use this
model to make decisions about people. It names people only from a gallery that its user enrols; nothing of the training
identities is in it but its weights.

## Training

`{settings.name}`: {step} of {settings.steps} steps, seed {settings.seed}, {settings.precision}, one run (no spread is
known). Temperature {settings.temperature:g} over the sets below; no pre-trained weights. {note}

{DATA}
## Figures

On the validation splits, from the ONNX files on {report.backend} {report.precision}, through the pipeline's own
letterbox, decode, NMS and alignment. The thresholds in `spec.json` were chosen on the same splits, so figures that use
them (NME, end-to-end accuracy) are a little flattering; AP, top-1 and the ten-fold accuracy do not depend on them.

{_figures(report)}
Objects: {", ".join(spec.objects)}.
Scenes: {", ".join(spec.scenes)}.

## Parity with PyTorch (f32)

{_parity(parity)}
## Known weaknesses

Small objects and crowded scenes; faces below about 20 pixels, in profile or upside down; people who look alike: the
identity task saw about 1,400 people, most of them public figures, unevenly spread over age, sex and origin, and was not
audited for bias. The scene class knows eleven classes and always picks one of them.
"""


def _figures(report: Report) -> str:
    objects, faces, scene, identity = report.objects, report.faces, report.scene, report.identity
    rows: list[tuple[str, float | None]] = []
    if objects:
        rows += [("objects AP", objects.ap), ("objects AP50", objects.ap50), ("person AP50", objects.person_ap50)]
    if faces:
        rows += [("faces AP50", faces.ap50), ("landmarks NME (inter-ocular)", faces.nme)]
    if scene:
        rows += [("scene top-1", scene.top1), ("scene top-5", scene.top5), ("scene ECE", scene.ece)]
    if identity:
        rows += [
            ("LFW verification accuracy, crops as they are", identity.accuracy),
            ("LFW verification accuracy, end to end", identity.accuracy_end_to_end),
        ]
    table = "".join(f"| {name} | {'-' if value is None else f'{value:.3f}'} |\n" for name, value in rows)
    return f"| figure | value |\n|---|---|\n{table}"


def _parity(found: Sequence[Parity]) -> str:
    rows = "".join(
        f"| {each.backend} | {each.boxes_px:.4f} px | {each.landmarks_px:.4f} px | {each.scores:.1e} | "
        f"{each.scene:.1e} | {each.cosine:.6f} |\n"
        for each in found
    )
    return f"| backend | boxes | landmarks | scores | scene | least cosine |\n|---|---|---|---|---|---|\n{rows}"

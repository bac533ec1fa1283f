"""The classes of a plain classifier as the scene task of a released model: through its exported form."""

from pathlib import Path

import msgspec

from engines.data.sources import Folders, labelled_pictures
from engines.evaluation.bootstrap import Interval
from engines.evaluation.report import open_runner
from engines.network.cost import PartCost, cost
from engines.spec import Model
from engines.tasks.scene.metrics import SceneEvidence, among_labels, score, tell_scenes


class SceneFigure(msgspec.Struct, frozen=True, kw_only=True):
    """Accuracy of a scene head that may choose among so many labels."""

    labels: int
    top1: float
    correct: int
    pictures: int
    interval: Interval | None  # bootstrap over the pictures


class JointOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a released model says of the pictures, and what that takes."""

    model: str
    fingerprint: str
    tasks: tuple[str, ...]
    size: tuple[int, int]  # width, height of its frame entry, pixels
    as_it_is: SceneFigure
    restricted: SceneFigure  # the other labels left out
    parameters: int  # of what the scene needs: trunk and scene head
    macs: int
    whole_parameters: int  # with all tasks
    whole_macs: int  # of the whole frame entry, all of its tasks included

    @property
    def figures(self) -> tuple[SceneFigure, SceneFigure]:
        return self.as_it_is, self.restricted


def measure_joint(model: Model, validation: Folders, data: Path) -> JointOutcome:
    """Run the model's f32 form over the validation pictures.

    Raises:
        ModelError: the model tells no scenes.
        DataError: the pictures cannot be read, or show a scene that the model does not know.
    """
    model.require(["scene"], "the improvement study")
    scenes = {file: label for label, file in labelled_pictures(validation, data)}
    with open_runner(model, "auto", "f32") as runner:
        evidence = tell_scenes(runner, scenes)
    spec, frame = model.spec, model.spec.entry("frame")
    spent = cost(spec.network, len(spec.objects), len(spec.scenes), (frame.height, frame.width))
    parts = spent.entries["frame"]
    needed: list[PartCost] = [parts["trunk"], parts["scene"]]
    return JointOutcome(
        model=spec.name,
        fingerprint=model.fingerprint,
        tasks=spec.network.tasks,
        size=(frame.width, frame.height),
        as_it_is=_figure(evidence),
        restricted=_figure(among_labels(evidence, sorted(set(scenes.values())))),
        parameters=sum(part.parameters for part in needed),
        macs=sum(part.macs for part in needed),
        whole_parameters=spent.parameters,
        whole_macs=sum(part.macs for part in parts.values()),
    )


def _figure(evidence: SceneEvidence) -> SceneFigure:
    scores = score(evidence)
    return SceneFigure(
        labels=len(evidence.labels),
        top1=scores.top1,
        correct=int(evidence.hit.sum()),
        pictures=scores.pictures,
        interval=scores.intervals["top1"],
    )

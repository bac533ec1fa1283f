"""What improves a plain classifier: declared changes, one at a time and together, each with several seeds.

Nothing is chosen: the steps are fixed here, every one of them is reported, and each run's figure is that of its last
epoch.
"""

import hashlib
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import torch
from msgspec.structs import replace

from engines.data.sources import labelled_pictures
from engines.network.cost import count_macs
from engines.network.plain import PlainNetwork, PlainSettings
from engines.study.classifier import ClassifierData, ClassifierTrainer, load_classifier_data
from engines.study.classifier_settings import ClassifierSettings
from engines.study.runs import RunOutcome, Stop, Study, StudyRun, key_of
from engines.training.settings import AugmentationSettings

SEEDS: Final = (0, 1, 2)
BASELINE: Final = "baseline"
# No blur, noise and low light: of pictures this small nothing would be left.
AUGMENTATION: Final = AugmentationSettings(
    scale=(0.9, 1.4), shift=0.08, rotate_deg=8.0, brightness=0.2, contrast=0.2, saturation=0.3, grey=0.05, erase=0.2,
    low_light=0.0, blur=0.0, noise=0.0, jpeg=0.0,
)  # fmt: skip


class Step(NamedTuple):
    """A named change of the settings."""

    name: str
    change: str  # in words
    settings: ClassifierSettings


class StepOutcome(RunOutcome, frozen=True, kw_only=True):
    """One finished run of a step; its number is the seed."""

    top1: float  # on the validation pictures, after the last epoch
    correct: int
    pictures: int  # of the validation split
    train_top1: float  # in the last epoch: far above top1, it says that the network memorises
    size: int  # side of its input, pixels
    epochs: int
    parameters: int
    macs: int  # multiply-accumulates of one picture
    cpu_seconds: float  # of training, of all threads together


class ImprovementStudy(Study[ClassifierSettings, StepOutcome]):
    """The runs of all steps with all seeds.

    Args:
        base: the settings that the steps change; its seed is not used.
        data: folder with the data.
        work: folder in which finished runs are kept; made where it is missing.
        seeds: of each step.
        device: on which is trained.

    Raises:
        DataError: a folder of the data is missing, or what is kept in ``work`` cannot be read.
    """

    def __init__(
        self, base: ClassifierSettings, data: Path, work: Path, seeds: Sequence[int], device: torch.device
    ) -> None:
        self.steps = declared_steps(base)
        self._data, self._device = data, device
        self._loaded: dict[tuple[int, int], ClassifierData] = {}  # by the sizes in memory
        pictures = [row for source in (base.train, base.validation) for row in labelled_pictures(source, data)]
        self.labels = tuple(sorted({label for label, _ in pictures}))
        # Seeds come last: a study that is interrupted has every step once.
        seeded = [(step.name, replace(step.settings, seed=seed)) for seed in seeds for step in self.steps]
        of_data = _fingerprint(data, pictures)
        runs = (StudyRun(name, own.seed, own, own.epochs, key_of(own, of_data)) for name, own in seeded)
        super().__init__(runs, work, StepOutcome)

    def _do(self, run: StudyRun[ClassifierSettings], stop: Stop) -> Generator[int, None, StepOutcome | None]:
        settings = run.settings
        if stop():
            return None
        sizes = (settings.canvas, settings.network.size)
        if sizes not in self._loaded:
            self._loaded[sizes] = load_classifier_data(settings, self._data)
        trainer = ClassifierTrainer(settings, self._loaded[sizes], self._device)
        for now in trainer.run():
            yield now.number
            if stop() and now.number < settings.epochs:
                return None
        evidence = trainer.evidence()
        macs, parameters = plain_cost(settings.network, len(evidence.labels))
        return StepOutcome(
            name=run.name,
            number=run.number,
            top1=float(evidence.hit.mean()),
            correct=int(evidence.hit.sum()),
            pictures=len(evidence.pictures),
            train_top1=now.train_top1,
            size=settings.network.size,
            epochs=settings.epochs,
            parameters=parameters,
            macs=macs,
            cpu_seconds=now.cpu_seconds,
        )


def declared_steps(base: ClassifierSettings) -> tuple[Step, ...]:
    """All steps of the study, in the order in which they are shown: each change alone, then together."""
    network, channels, dense = base.network, 2 * base.network.blocks[-1][-1], _half_more(base.network.dense)
    deeper = (*network.blocks, (channels, channels))
    alone: dict[str, tuple[str, dict[str, object]]] = {
        "augmentation": ("flip, crop, shift, turn, colour, erase", {"augmentation": AUGMENTATION}),
        "layers": (f"a further block of two convolutions of {channels}", {"network.blocks": deeper}),
        "width": (
            f"half as many channels again, dense {dense}",
            {"network.blocks": _wider(network.blocks), "network.dense": dense},
        ),
        "activation": ("SiLU", {"network.activation": "silu"}),
        "normalisation": ("batch normalisation", {"network.normalisation": "batch"}),
        "regularisation": (
            "dropout 0.5, weight decay 0.05, label smoothing 0.1",
            {"network.dropout": 0.5, "weight_decay": 0.05, "label_smoothing": 0.1},
        ),
    }
    every = dict(row for _, changes in alone.values() for row in changes.items())
    together = _changed(base, every | {"network.blocks": _wider(deeper)})
    size = {"network.size": 2 * network.size}
    larger, longer = _changed(together, size), _changed(together, size | {"epochs": 2 * base.epochs})
    return (
        Step(BASELINE, f"{_described(network)}, {base.epochs} epochs", base),
        *(Step(name, words, _changed(base, changes)) for name, (words, changes) in alone.items()),
        Step("input", f"{2 * network.size} pixels", _changed(base, size)),
        Step("together", f"all of the above, at {network.size} pixels", together),
        Step("together, input", f"all of the above, at {2 * network.size} pixels", larger),
        Step("together, input, time", f"the same, {longer.epochs} epochs", longer),
    )


def _changed(settings: ClassifierSettings, changes: Mapping[str, object]) -> ClassifierSettings:
    """The settings with other values, by the paths of their keys."""
    inside = {key.removeprefix("network."): it for key, it in changes.items() if key.startswith("network.")}
    run = {key: it for key, it in changes.items() if not key.startswith("network.")}
    return replace(settings, network=replace(settings.network, **inside), **run)


def _wider(blocks: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(map(_half_more, block)) for block in blocks)


def _half_more(count: int) -> int:
    return count * 3 // 2


def _described(network: PlainSettings) -> str:
    blocks = ", ".join(" ".join(map(str, block)) for block in network.blocks)
    return f"{network.size} pixels, convolutions {blocks}, dense {network.dense}, {network.activation}"


def plain_cost(settings: PlainSettings, classes: int) -> tuple[int, int]:
    """Multiply-accumulates of one picture, counted as those of the joint network, and parameters."""
    with torch.device("meta"):
        network = PlainNetwork(settings, classes).eval()
        picture = torch.zeros(1, settings.size, settings.size, 3, dtype=torch.uint8)
    macs = count_macs(network, lambda: network(picture))
    return sum(macs.values()), sum(parameter.numel() for parameter in network.parameters())


def _fingerprint(data: Path, pictures: Sequence[tuple[str, Path]]) -> str:
    """Changes when a picture comes, goes, or gets another label or size."""
    rows = [f"{label} {file.relative_to(data)} {file.stat().st_size}" for label, file in pictures]
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()

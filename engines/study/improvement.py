"""What improves a plain classifier: declared changes, one at a time and together, each with several seeds.

Nothing is chosen: the steps are fixed here, every one of them is reported, and each run's figure is that of its last
epoch. Runs that are finished are kept, so that an interrupted study goes on.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from msgspec.structs import replace

from engines.data.reading import read_json
from engines.data.sources import labelled_pictures
from engines.network.cost import count_macs
from engines.network.plain import PlainNetwork, PlainSettings
from engines.study.classifier import ClassifierData, ClassifierTrainer, load_classifier_data
from engines.study.classifier_settings import ClassifierSettings
from engines.training.settings import AugmentationSettings

OUTCOMES = "outcomes.json"
SEEDS = (0, 1, 2)
BASELINE = "baseline"
AUGMENTATION = AugmentationSettings(
    scale=(0.9, 1.4),
    shift=0.08,
    rotate_deg=8.0,
    brightness=0.2,
    contrast=0.2,
    saturation=0.3,
    grey=0.05,
    low_light=0.0,
    blur=0.0,  # of pictures this small nothing would be left
    noise=0.0,
    jpeg=0.0,
    erase=0.2,
)

Change = Callable[[ClassifierSettings], ClassifierSettings]


@dataclass(frozen=True, slots=True)
class Step:
    """A named change of the settings."""

    name: str
    change: str  # in words
    settings: ClassifierSettings


class StepOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """One finished run."""

    key: str  # of its settings, seed and data
    step: str
    seed: int
    top1: float  # on the validation pictures, after the last epoch
    correct: int
    pictures: int  # of the validation split
    train_top1: float  # in the last epoch: far above top1, it says that the network memorises
    size: int  # side of its input, pixels
    epochs: int
    parameters: int
    macs: int  # multiply-accumulates of one picture
    cpu_seconds: float  # of training, of all threads together


@dataclass(frozen=True, slots=True)
class StudyProgress:
    """Where a study is."""

    step: str
    seed: int
    epoch: int
    epochs: int
    done: int  # runs


class ImprovementStudy:
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
        self._file = work / OUTCOMES
        pictures = [row for source in (base.train, base.validation) for row in labelled_pictures(source, data)]
        self.labels = tuple(sorted({label for label, _ in pictures}))
        fingerprint = _fingerprint(data, pictures)
        # Seeds come last: a study that is interrupted has every step once.
        runs = [(step, replace(step.settings, seed=seed)) for seed in seeds for step in self.steps]
        self._runs = {_key(settings, fingerprint): (step, settings) for step, settings in runs}
        kept = read_json(self._file, list[StepOutcome], "a list of outcomes") if self._file.exists() else []
        self._outcomes = {outcome.key: outcome for outcome in kept}

    @property
    def runs(self) -> int:
        """How many there are, finished or not."""
        return len(self._runs)

    @property
    def outcomes(self) -> list[StepOutcome]:
        """The finished runs of this study, in the order of its steps."""
        order = [step.name for step in self.steps]
        found = [self._outcomes[key] for key in self._runs if key in self._outcomes]
        return sorted(found, key=lambda outcome: (order.index(outcome.step), outcome.seed))

    def run(self) -> Iterator[StudyProgress]:
        """Do the runs that are not finished yet, an epoch at a time.

        Raises:
            DataError: the data cannot be used.
        """
        loaded: dict[tuple[int, int], ClassifierData] = {}  # by the sizes in memory
        for key, (step, settings) in self._runs.items():
            if key in self._outcomes:
                continue
            done = len(self.outcomes)
            sizes = (settings.canvas, settings.network.size)
            if sizes not in loaded:
                loaded[sizes] = load_classifier_data(settings, self._data)
            trainer = ClassifierTrainer(settings, loaded[sizes], self._device)
            for now in trainer.run():
                yield StudyProgress(step.name, settings.seed, now.number, settings.epochs, done)
            self._keep(_outcome(key, step, trainer, now.train_top1, now.cpu_seconds))

    def _keep(self, outcome: StepOutcome) -> None:
        self._outcomes[outcome.key] = outcome
        self._file.parent.mkdir(parents=True, exist_ok=True)
        part = self._file.with_suffix(".part")
        part.write_bytes(msgspec.json.encode(list(self._outcomes.values())))
        os.replace(part, self._file)


def declared_steps(base: ClassifierSettings) -> tuple[Step, ...]:
    """All steps of the study, in the order in which they are shown: each change alone, then together."""
    blocks, dense, size = base.network.blocks, base.network.dense, base.network.size
    alone: dict[str, tuple[str, Change]] = {
        "augmentation": ("flip, crop, shift, turn, colour, erase", _varied),
        "layers": (f"a further block of two convolutions of {2 * blocks[-1][-1]}", _deeper),
        "width": (f"half as many channels again, dense {_half_more(dense)}", _wider),
        "activation": ("SiLU", _smooth),
        "normalisation": ("batch normalisation", _normalised),
        "regularisation": ("dropout 0.5, weight decay 0.05, label smoothing 0.1", _regularised),
    }
    together = base
    for _, change in alone.values():
        together = change(together)
    larger, longer = _larger(together), _longer(_larger(together))
    return (
        Step(BASELINE, f"{_described(base.network)}, {base.epochs} epochs", base),
        *(Step(name, words, change(base)) for name, (words, change) in alone.items()),
        Step("input", f"{2 * size} pixels", _larger(base)),
        Step("together", f"all of the above, at {size} pixels", together),
        Step("together, input", f"all of the above, at {2 * size} pixels", larger),
        Step("together, input, time", f"the same, {longer.epochs} epochs", longer),
    )


def _varied(settings: ClassifierSettings) -> ClassifierSettings:
    return replace(settings, augmentation=AUGMENTATION)


def _deeper(settings: ClassifierSettings) -> ClassifierSettings:
    channels = 2 * settings.network.blocks[-1][-1]
    return _with_network(settings, blocks=(*settings.network.blocks, (channels, channels)))


def _wider(settings: ClassifierSettings) -> ClassifierSettings:
    network = settings.network
    blocks = tuple(tuple(map(_half_more, block)) for block in network.blocks)
    return _with_network(settings, blocks=blocks, dense=_half_more(network.dense))


def _smooth(settings: ClassifierSettings) -> ClassifierSettings:
    return _with_network(settings, activation="silu")


def _normalised(settings: ClassifierSettings) -> ClassifierSettings:
    return _with_network(settings, normalisation="batch")


def _regularised(settings: ClassifierSettings) -> ClassifierSettings:
    return replace(_with_network(settings, dropout=0.5), weight_decay=0.05, label_smoothing=0.1)


def _larger(settings: ClassifierSettings) -> ClassifierSettings:
    return _with_network(settings, size=2 * settings.network.size)


def _longer(settings: ClassifierSettings) -> ClassifierSettings:
    return replace(settings, epochs=2 * settings.epochs)


def _with_network(settings: ClassifierSettings, **changes: object) -> ClassifierSettings:
    return replace(settings, network=replace(settings.network, **changes))


def _half_more(count: int) -> int:
    return count * 3 // 2


def _described(network: PlainSettings) -> str:
    blocks = ", ".join(" ".join(map(str, block)) for block in network.blocks)
    return f"{network.size} pixels, convolutions {blocks}, dense {network.dense}, {network.activation}"


def _outcome(key: str, step: Step, trainer: ClassifierTrainer, train_top1: float, cpu_seconds: float) -> StepOutcome:
    evidence, settings = trainer.evidence(), trainer.settings
    macs, parameters = plain_cost(settings.network, len(evidence.labels))
    return StepOutcome(
        key=key,
        step=step.name,
        seed=settings.seed,
        top1=float(evidence.hit.mean()),
        correct=int(evidence.hit.sum()),
        pictures=len(evidence.pictures),
        train_top1=train_top1,
        size=settings.network.size,
        epochs=settings.epochs,
        parameters=parameters,
        macs=macs,
        cpu_seconds=cpu_seconds,
    )


def plain_cost(settings: PlainSettings, classes: int) -> tuple[int, int]:
    """Multiply-accumulates of one picture, counted as those of the joint network, and parameters."""
    with torch.device("meta"):
        network = PlainNetwork(settings, classes).eval()
        picture = torch.zeros(1, settings.size, settings.size, 3, dtype=torch.uint8)
    macs = count_macs(network, lambda: network(picture))
    return sum(macs.values()), sum(parameter.numel() for parameter in network.parameters())


def _key(settings: ClassifierSettings, fingerprint: str) -> str:
    """16 hex digits that change with anything that a run depends on, but for its name and the code."""
    text = msgspec.json.encode(replace(settings, name="-")) + fingerprint.encode()
    return hashlib.sha256(text).hexdigest()[:16]


def _fingerprint(data: Path, pictures: Sequence[tuple[str, Path]]) -> str:
    """Changes when a picture comes, goes, or gets another label or size."""
    digest = hashlib.sha256()
    for label, file in pictures:
        digest.update(f"{label} {file.relative_to(data)} {file.stat().st_size}\n".encode())
    return digest.hexdigest()

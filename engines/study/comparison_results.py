"""What came of a comparison, over its seeds: everything that its pages show."""

from collections.abc import Iterable, Sequence
from itertools import chain

import msgspec

from engines.evaluation.bootstrap import Interval
from engines.spec import TaskName
from engines.study.comparison import JOINT, Name, RunOutcome
from engines.study.metrics import DELTA_M, METRICS, WITH_LANDMARKS, Figures, Metric, SeedSpread, delta_m
from engines.study.pace import Pace
from engines.study.speed import EntrySpeeds
from engines.training.settings import TrainingSettings


class MetricRow(msgspec.Struct, frozen=True, kw_only=True):
    """A metric of the joint network and of the task's own."""

    key: str
    title: str
    lower_is_better: bool
    joint: SeedSpread | None
    single: SeedSpread | None  # None, too, where it takes more than one task
    gain: SeedSpread | None  # a share of the single-task figure, seed by seed; above 0 the joint network is better
    joint_interval: Interval | None  # bootstrap, of the first seed
    single_interval: Interval | None


class NetworkCost(msgspec.Struct, frozen=True, kw_only=True):
    """What a network costs, and what it took to train it."""

    name: Name
    parameters: int
    macs: int  # of a picture through each of its entries
    steps: int
    pictures: int  # that it saw in training
    seconds: float  # of training: the steps at the pace that was measured


class MultiTask(msgspec.Struct, frozen=True, kw_only=True):
    """A finished comparison."""

    command: str
    config: str
    config_steps: int  # that the configuration asks for by itself
    hours: float | None  # that the steps were chosen to fit into; None: the steps were asked for
    seeds: tuple[int, ...]
    tasks: tuple[TaskName, ...]
    rows: tuple[MetricRow, ...]
    delta_m: SeedSpread | None  # over the seeds
    delta_m_landmarks: SeedSpread | None  # with the landmarks' error as a further figure
    costs: tuple[NetworkCost, ...]  # the joint network first
    cosines: dict[str, float]  # A.B -> cosine of the two tasks' gradients, mean over the joint runs
    speed: EntrySpeeds
    pace: Pace
    runs: tuple[RunOutcome, ...]

    @property
    def validated(self) -> bool:
        """Whether the runs were scored as they went."""
        return any(name.startswith("score.") for run in self.runs for name in run.curves)


def summarise(
    command: str,
    settings: TrainingSettings,
    hours: float | None,
    outcomes: Sequence[RunOutcome],
    speed: EntrySpeeds,
    pace: Pace,
) -> MultiTask:
    """Everything over the seeds, of which each has all its runs.

    Args:
        command: that does all this again.
        settings: the joint configuration as it is written.
        hours: that the steps were chosen to fit into; None where they were asked for.
        outcomes: of all runs, seed by seed, the joint network's first.
        speed: of the first seed's networks.
        pace: of training.
    """
    seeds = tuple(dict.fromkeys(outcome.seed for outcome in outcomes))
    joint = [outcome for outcome in outcomes if outcome.name == JOINT]
    apart = [_together(each.figures for each in outcomes if each.seed == seed and each.name != JOINT) for seed in seeds]
    pairs = [(each.figures, single) for each, single in zip(joint, apart, strict=True)]
    return MultiTask(
        command=command,
        config=settings.name,
        config_steps=settings.steps,
        hours=hours,
        seeds=seeds,
        tasks=joint[0].tasks,
        rows=tuple(_row(metric, pairs) for metric in METRICS if metric.key in joint[0].figures),
        delta_m=SeedSpread.of(delta_m(*pair, DELTA_M) for pair in pairs),
        delta_m_landmarks=SeedSpread.of(delta_m(*pair, WITH_LANDMARKS) for pair in pairs),
        costs=tuple(_cost(outcome, pace) for outcome in outcomes if outcome.seed == seeds[0]),
        cosines=_cosines(joint),
        speed=speed,
        pace=pace,
        runs=tuple(outcomes),
    )


def _together(figures: Iterable[Figures]) -> Figures:
    return dict(chain.from_iterable(each.items() for each in figures))


def _row(metric: Metric, pairs: Sequence[tuple[Figures, Figures]]) -> MetricRow:
    """A metric over the (joint, single-task) figures of the seeds."""
    joint = [ours[metric.key] for ours, _ in pairs]
    single = [theirs[metric.key] for _, theirs in pairs if metric.key in theirs]
    values = [(one.value, other.value) for one, other in zip(single, joint, strict=False)]
    gains = [None if one is None or other is None else metric.gain(one, other) for one, other in values]
    return MetricRow(
        key=metric.key,
        title=metric.title,
        lower_is_better=metric.lower_is_better,
        joint=SeedSpread.of(figure.value for figure in joint),
        single=SeedSpread.of(figure.value for figure in single),
        gain=SeedSpread.of(gains),
        joint_interval=joint[0].interval,
        single_interval=single[0].interval if single else None,
    )


def _cost(outcome: RunOutcome, pace: Pace) -> NetworkCost:
    return NetworkCost(
        name=outcome.name,
        parameters=outcome.parameters,
        macs=sum(outcome.macs.values()),
        steps=outcome.steps,
        pictures=outcome.pictures,
        seconds=round(outcome.steps * pace.step_seconds[outcome.name], 3),
    )


def _cosines(joint: Sequence[RunOutcome]) -> dict[str, float]:
    names = joint[0].cosines
    return {
        name.removeprefix("gradient."): sum(each.cosines[name] for each in joint) / len(joint)
        for name in names
        if all(name in each.cosines for each in joint)
    }

"""One step of joint training, and all that must be saved to go on exactly."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
import torch
from torch import Tensor

from engines.errors import DataError, TrainingError
from engines.network.detection_head import DetectionHead
from engines.network.features import Features, Grid, anchor_points
from engines.network.network import Raw, build_network
from engines.spec import TASKS, USUAL_TASKS, Model, NetworkSettings, TaskName
from engines.training.adopting import adopt_model, part_scores
from engines.training.augmentation import MicroBatch
from engines.training.balancing import build_balance
from engines.training.checkpoint import DENSE, Checkpoint
from engines.training.criteria import Learning, build_criteria, criterion
from engines.training.datasets import PictureSet
from engines.training.dense import DenseCriterion, DenseTargets, DenseTeacher
from engines.training.ema import Ema
from engines.training.freezing import still_parts
from engines.training.gradients import Gradients, cosines, trunk_gradients
from engines.training.losses import Loss, joined
from engines.training.micro_batches import Draw, MicroBatchMaker
from engines.training.optimising import Optimiser
from engines.training.processes import NormStatistics, Processes
from engines.training.sampling import RowSampler, SetSampler
from engines.training.settings import Kind, Shape, TrainingSettings, entry_of
from engines.training.slimming import narrower, slimmed

log = structlog.get_logger()

MAX_SKIPPED_IN_A_ROW = 10  # steps whose gradients are not finite; a run that meets more does not recover


@dataclass(frozen=True, slots=True)
class MicroBatchResult:
    """What a micro-batch gave."""

    totals: dict[str, float]  # raw loss by task
    parts: dict[str, float]  # for the log: TASK.total and TASK.PART

    @classmethod
    def of(cls, losses: Mapping[TaskName, Loss]) -> "MicroBatchResult":
        """Bring the values of a micro-batch to the CPU, all at once."""
        named = {
            f"{task}.{name}": value.detach()
            for task, loss in losses.items()
            for name, value in {"total": loss.total, **loss.parts}.items()
        }
        values = dict(zip(named, torch.stack([value.float() for value in named.values()]).tolist(), strict=True))
        return cls({task: values[f"{task}.total"] for task in losses}, values)


def _with_tasks(
    settings: TrainingSettings, sets: Sequence[PictureSet], chosen: Collection[TaskName] | None
) -> TrainingSettings:
    """The settings with only those of their (or the chosen) tasks that the sets label: other heads learn nothing."""
    labelled = {each.name: set(each.tasks) for each in sets}
    wanted = settings.network.tasks
    for name, found in labelled.items():
        if not found & set(wanted):
            raise DataError(
                f"dataset {name!r} labels {', '.join(sorted(found))}, none of which network.tasks "
                f"{list(wanted)} has: leave it out"
            )
    learnt = wanted if chosen is None else [task for task in wanted if task in chosen]
    tasks = tuple(task for task in learnt if any(task in found for found in labelled.values()))
    return msgspec.structs.replace(settings, network=msgspec.structs.replace(settings.network, tasks=tasks))


class Trainer:
    """A run: network, sets, optimiser and all that must be saved to go on exactly.

    With ``tasks``, the network learns these alone. Micro-batches are drawn as for all tasks, and those of sets that
    label none of these are passed over: the network sees the very pictures that one with all tasks sees of their sets.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        sets: Sequence[PictureSet],
        labels: tuple[tuple[str, ...], tuple[str, ...]],
        device: torch.device,
        processes: Processes | None = None,
        tasks: Collection[TaskName] | None = None,
        dense: DenseTeacher | None = None,
    ) -> None:
        torch.manual_seed(settings.seed)
        self.settings = settings = _with_tasks(settings, sets, tasks)
        self.device = device
        self.processes = processes or Processes()
        self.labels = labels
        self.sets = [s.to(device) for s in sets]
        self.learnt = {row for row, s in enumerate(sets) if set(s.tasks) & set(settings.network.tasks)}
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.network = build_network(settings.network, len(labels[0]), len(labels[1]))
        self.network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a true overload
        self.still = still_parts(self.network, settings)
        self.shared = [p for p in self.network.trunk.parameters() if p.requires_grad]
        known = settings.network.tasks
        classes = {name: max((s.classes for s in sets if s.kind == name), default=1) for name in known}
        self.criteria = build_criteria(settings, classes)
        dense = dense if "objects" in known else None
        if dense is not None and settings.dense is not None:
            self.criteria[DENSE] = DenseCriterion(settings.dense, dense.known, settings.network.neck, dense.widths)
        self.criteria.to(device)
        weights = {name: settings.loss.weight(name) for name in TASKS if name in USUAL_TASKS or name in known}
        self.balance = build_balance(settings.loss.balance, weights).to(device)
        further = [*self.criteria.parameters(), *self.balance.parameters()]
        self.optimiser = Optimiser(self.network, further, settings)
        self.ema = Ema(self.network, settings.ema_decay)
        self.norms = NormStatistics(self.network) if self.processes.count > 1 else None
        entries = settings.datasets
        self.set_sampler = SetSampler(
            [len(s) for s in sets], [each.weight for each in entries], settings.temperature, settings.micro_batches
        )
        self.row_samplers = [
            RowSampler(data, self.generator, each.repeat) for data, each in zip(self.sets, entries, strict=True)
        ]
        sizes = {size for phase in settings.phases for entry in entries for size in phase.shapes(entry)}
        self.grids = {size: self._grid(size) for size in sizes}
        self.maker = MicroBatchMaker(entries, self.sets, self.grids, dense)
        self.forwards = {kind: self._compiled(self._forward_of(kind)) for kind in {s.kind for s in sets}}
        self.step = 0
        self.began = 0  # the step at which the learning rate began to rise
        self.skipped = 0  # steps since this process began that changed no weight, since their gradients were not finite
        self.skipped_in_a_row = 0
        self.means: dict[str, float] = {}

    def _forward_of(self, kind: Kind) -> Callable[[Tensor], tuple[Features, dict[TaskName, Raw]]]:
        """What the network makes of pictures of sets of this kind: those with boxes go through all heads of frames."""
        entry = entry_of(kind)
        names = self.network.tasks_of(entry) if kind == "boxes" else (kind,)
        return lambda pictures: self.network.look(entry, names, pictures)

    def _compiled(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        """One of the network's ways, compiled for each size of its input if the settings say so."""
        return torch.compile(forward, dynamic=False) if self.settings.compiled else forward

    def _grid(self, size: Shape) -> Grid:
        points, strides, cells = anchor_points(size[1], size[0])
        return Grid(points.to(self.device), strides.to(self.device), cells)

    def learning_rate(self) -> float:
        """Linear warm-up, then cosine to 1 % (Loshchilov & Hutter 2017)."""
        s = self.settings
        share = max(0, self.step - s.warmup_steps) / max(1, s.steps - s.warmup_steps)
        cosine = s.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))
        return cosine * min(1.0, (self.step - self.began + 1) / max(1, s.warmup_steps))

    def train_step(self) -> float:
        """One optimiser step over the micro-batches of all tasks; returns the learning rate used.

        A step whose gradients are not finite changes no weight, and counts as :attr:`skipped`.

        Raises:
            TrainingError: a loss is no longer a number, or too many steps in a row were skipped; the step changed no
                weight.
        """
        self.network.train()
        self.still.eval()
        rate = self.learning_rate()
        self.optimiser.set_rate(rate)
        self.optimiser.zero_grad()
        draws = [draw for draw in map(self._draw, self.set_sampler.step()) if draw.dataset in self.learnt]
        measured = self.shared and self.settings.gradient_steps and self.step % self.settings.gradient_steps == 0
        found = self._run(draws, Gradients() if measured else None)
        for task, value in ((task, value) for each in found for task, value in each.totals.items()):
            if not math.isfinite(value):
                raise TrainingError(f"the {task} loss is {value} at step {self.step}: lower learning_rate")
        self.processes.sum_gradients(self.optimiser.parameters)
        if not self._finite_gradients():
            self._skip()
            return rate
        self.skipped_in_a_row = 0
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip_norm)
        self.optimiser.step()
        self.step += 1
        self.ema.update(self.network, self.step)
        totals = [each.totals for each in found]
        self.balance.observe(totals)
        if self.balance.looks_back:
            self.balance.learn(totals, self._look_back(draws))
        for each in found:
            for name, value in each.parts.items():
                self._note(name, value)
        return rate

    def _finite_gradients(self) -> bool:
        """Whether all gradients, summed over the processes, are numbers: clipping would make infinite ones NaN."""
        gradients = [p.grad for p in self.optimiser.parameters if p.grad is not None]
        return bool(torch.stack([gradient.isfinite().all() for gradient in gradients]).all()) if gradients else True

    def _skip(self) -> None:
        """Pass over a step: what it drew is gone, and no weight changes."""
        self.skipped += 1
        self.skipped_in_a_row += 1
        if self.skipped_in_a_row > MAX_SKIPPED_IN_A_ROW:
            raise TrainingError(
                f"the gradients of {self.skipped_in_a_row} steps in a row, up to step {self.step}, are not finite: "
                "lower learning_rate, or take precision 'f32'"
            )
        self.optimiser.zero_grad()
        self.step += 1
        log.warning("gradients are not finite, the step is skipped", step=self.step, skipped=self.skipped)

    def finite(self) -> bool:
        """Whether all weights and running statistics, of the network and of its average, are numbers."""
        parts = (self.network, self.ema.network, self.criteria)
        values = [value for part in parts for value in part.state_dict().values() if value.is_floating_point()]
        return bool(torch.stack([value.isfinite().all() for value in values]).all())

    def _draw(self, index: int) -> Draw:
        """Choose a micro-batch of a set. Every process chooses all of them, and works on its own."""
        entry, phase = self.settings.datasets[index], self.settings.phase(self.step)
        mosaic = float(torch.rand((), generator=self.generator)) < entry.mosaic and phase.mosaic
        rows = self.row_samplers[index].take(entry.batch * (4 if mosaic else 1))
        seed = int(torch.randint(2**62, (), generator=self.generator))
        shapes = phase.shapes(entry)
        size = shapes[int(torch.randint(len(shapes), (), generator=self.generator)) if len(shapes) > 1 else 0]
        return Draw(index, rows, size, mosaic, seed)

    def _run(self, draws: Sequence[Draw], gradients: Gradients | None) -> list[MicroBatchResult]:
        """Forward and backward of this process' micro-batches; what all processes found, in order."""
        found, statistics = {}, {}
        if self.norms:
            self.norms.begin()
        for position, draw, batch in self.maker.made(self.processes.mine(draws)):
            found[position] = self._backward(draw, batch, gradients)
            if self.norms:
                statistics[position] = self.norms.take()
        if self.norms:
            self.norms.end(self.processes.gathered(statistics))
        if gradients is not None:
            self._note_gradients(gradients)
        return self.processes.gathered(found)

    def _backward(self, draw: Draw, batch: MicroBatch, gradients: Gradients | None = None) -> MicroBatchResult:
        losses = self._losses(batch, draw)
        weighted = {task: self.balance.weigh(task, loss.total) for task, loss in losses.items()}
        if gradients is not None:
            gradients.add(trunk_gradients(weighted, self.shared))
        torch.stack(list(weighted.values())).sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return MicroBatchResult.of(losses)

    def _look_back(self, draws: Sequence[Draw]) -> list[dict[str, float]]:
        """The losses of a step's micro-batches with the weights after it; nothing else changes."""
        kept = {name: value.clone() for name, value in self.network.named_buffers()}
        found = {}
        with torch.no_grad():
            for position, draw, batch in self.maker.made(self.processes.mine(draws)):
                found[position] = MicroBatchResult.of(self._losses(batch, draw)).totals
            for name, value in self.network.named_buffers():
                value.copy_(kept[name])
        return self.processes.gathered(found)

    def _note(self, name: str, value: float) -> None:
        self.means[name] = value if name not in self.means else 0.98 * self.means[name] + 0.02 * value

    def _note_gradients(self, mine: Gradients) -> None:
        like = torch.cat([p.flatten() for p in self.shared])
        self.means.update(cosines(self.processes.sum(mine.sums, TASKS, like.detach().float())))

    def _losses(self, batch: MicroBatch, draw: Draw) -> dict[TaskName, Loss]:
        """The losses of the tasks that the micro-batch's set labels, or a teacher, and no others."""
        torch.manual_seed(draw.seed)  # dropout
        bf16 = self.settings.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            features, raw = self.forwards[self.sets[draw.dataset].kind](batch.pictures)
            grid = self.grids[draw.size]
            found = {name: self._loss(name, value, batch, grid) for name, value in raw.items()}
            if batch.dense is not None:
                found["objects"] = joined(found["objects"], self._taught(batch.dense, grid, features, raw["objects"]))
        return {name: loss for name, loss in found.items() if loss is not None}

    def _taught(self, said: DenseTargets, grid: Grid, features: Features, raw: Raw) -> Loss:
        """How far the network's objects are from what a detector says of the same pictures."""
        head, criterion = self.network.head("objects"), self.criteria[DENSE]
        assert isinstance(head, DetectionHead) and isinstance(criterion, DenseCriterion)
        return criterion(head, raw, grid, features, said)  # type: ignore[no-any-return]  # nn.Module's

    def _loss(self, name: TaskName, raw: Raw, batch: MicroBatch, grid: Grid) -> Loss | None:
        learning = Learning(self.network.head(name), grid, self.step, self.settings.steps)
        return criterion(self.criteria, name)(raw, batch, learning)

    def checkpoint(self, seconds: float = 0.0, best: tuple[float, int] = (-math.inf, 0)) -> Checkpoint:
        """Everything needed to go on, also for whoever keeps the time and the best validation."""
        return Checkpoint(
            settings=self.settings,
            objects=self.labels[0],
            scenes=self.labels[1],
            step=self.step,
            network=self.network.state_dict(),
            ema=self.ema.network.state_dict(),
            criteria=self.criteria.state_dict(),
            optimiser=self.optimiser.state(),
            balance=self.balance.state(),
            random=self.generator.get_state(),
            credit=self.set_sampler.credit,
            queues=[s.queue for s in self.row_samplers],
            means=dict(self.means),
            seconds=seconds,
            best=best,
            began=self.began,
        )

    def restore(self, saved: Checkpoint) -> None:
        """Go on where a checkpoint stopped.

        Raises:
            DataError: the checkpoint is of another configuration or other data.
        """
        before, now = (
            (each.network, [entry.learnt for entry in each.datasets]) for each in (saved.settings, self.settings)
        )
        if before != now:
            raise DataError(
                "--resume: the checkpoint was made with another network or other datasets than the config's"
            )
        if saved.settings.optimiser != self.settings.optimiser:
            raise DataError(
                f"--resume: the checkpoint was made with the optimiser {saved.settings.optimiser!r}, "
                f"got {self.settings.optimiser!r}"
            )
        if self._of_other_data(saved):
            raise DataError("--resume: the checkpoint was made from other data: its classes, people or pictures differ")
        self.network.load_state_dict(saved.network)
        self.ema.network.load_state_dict(saved.ema)
        self.criteria.load_state_dict(saved.criteria)
        self.optimiser.restore(saved.optimiser)
        self.balance.restore(saved.balance)
        self.generator.set_state(saved.random)
        self.set_sampler.credit = saved.credit
        for sampler, queue in zip(self.row_samplers, saved.queues, strict=True):
            sampler.queue = queue
        self.step, self.began, self.means = saved.step, saved.began, dict(saved.means)

    def begin_from(self, saved: Checkpoint) -> None:
        """Start a new run from the averaged weights of another one, with fresh optimiser and schedule.

        Tasks that the other run does not have begin with fresh weights; of a wider network the channels that say most
        are taken.

        Raises:
            DataError: the checkpoint is of another network, other classes or other people.
        """
        if not self._extends(saved.settings.network) or self._knows_others(saved):
            raise DataError("--init: the checkpoint's network, classes or people are not the configuration's")
        weights = self.network.state_dict()
        weights |= part_scores(slimmed(saved.ema, weights, saved.settings.network), weights)
        self.network.load_state_dict(weights)
        self.ema.network.load_state_dict(weights)
        self.criteria.load_state_dict(self.criteria.state_dict() | saved.criteria)
        self.balance.restore_initial_values(saved.balance)  # the tasks keep their relative weights

    def begin_from_model(self, model: Model, at_step: int = 0) -> None:
        """Start a new run from the weights of a released model; what identities look like is learnt anew.

        Tasks and classes that the model does not know begin with fresh weights. ``at_step`` is where in the schedule
        the run goes on, for one whose optimiser's state is lost; the learning rate rises anew from there.

        Raises:
            DataError: the model is of another network, or has tasks that this one has not.
        """
        if not self._extends(model.spec.network):
            raise DataError(f"--init {model.path}: the model's network is not the configuration's")
        adopted = adopt_model(model, self.network.state_dict(), self.labels)
        self.network.load_state_dict(adopted)
        self.ema.network.load_state_dict(adopted)
        self.step = self.began = min(at_step, self.settings.steps)

    def _extends(self, network: NetworkSettings) -> bool:
        """Whether this network is another one, but for more tasks, parted scores, mirrored faces or fewer channels."""
        own = self.settings.network
        parted = msgspec.structs.replace(network, class_width=network.class_width or own.class_width)
        freed = ("tasks", "mirrored_faces", "channels", "neck", "class_width")
        grown = msgspec.structs.replace(parted, **{name: getattr(own, name) for name in freed})
        return grown == own and narrower(own, parted) and set(network.tasks) <= set(own.tasks)

    def _knows_others(self, saved: Checkpoint) -> bool:
        """Whether a checkpoint's classes or people are not ours."""
        ours = _shapes(self.criteria.state_dict())
        theirs = _shapes(saved.criteria)
        return (saved.objects, saved.scenes) != self.labels or any(ours.get(name) != theirs[name] for name in theirs)

    def _of_other_data(self, saved: Checkpoint) -> bool:
        queues = zip(saved.queues, self.sets, strict=True)
        return self._knows_others(saved) or any(bool((queue >= len(each)).any()) for queue, each in queues)


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in state.items()}

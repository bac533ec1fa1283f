"""The joint training loop."""

import math
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from engines.errors import DataError, TrainingError
from engines.network.network import anchor_points, build_network
from engines.training import datasets
from engines.training.augmentation import Augmenter, MicroBatch
from engines.training.balancing import InitialValueBalance
from engines.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from engines.training.datasets import PictureSet
from engines.training.ema import Ema
from engines.training.losses import CosFace, Loss, detection_loss
from engines.training.sampling import RowSampler, SetSampler
from engines.training.settings import DatasetSettings, Task, TrainingSettings

MARGIN_RAMP_SHARE = 0.2  # the identity margin grows over this first share of the run


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is."""

    step: int
    steps: int
    seconds: float  # since this process began
    steps_per_s: float
    learning_rate: float
    losses: dict[str, float]  # raw task losses and their parts, running means


def load_sets(settings: Sequence[DatasetSettings], data: Path) -> list[PictureSet]:
    """Read every set of a configuration into memory."""
    if not data.is_dir():
        raise DataError(f"--data {data}: no such folder")
    loaded = []
    for entry in settings:
        match entry.kind:
            case "detection":
                loaded.append(datasets.load_detection(data))
            case "face_detection":
                loaded.append(datasets.load_face_detection(data))
            case "face_landmarks":
                loaded.append(datasets.load_face_landmarks(data))
            case "scenes":
                loaded.append(datasets.load_scenes(data))
            case "identities":
                loaded.append(datasets.load_identities(data))
    return loaded


class Trainer:
    """A run: network, sets, optimiser and all that must be saved to go on exactly."""

    def __init__(
        self,
        settings: TrainingSettings,
        sets: Sequence[PictureSet],
        labels: tuple[tuple[str, ...], tuple[str, ...]],
        device: torch.device,
    ) -> None:
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.device = device
        self.labels = labels
        self.sets = [s.to(device) for s in sets]
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.network = build_network(settings.network, len(labels[0]), len(labels[1]))
        self.network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a true overload
        identities = max((s.classes for s in sets if s.name == "identities"), default=1)
        loss = settings.loss
        self.cosface = CosFace(settings.network.embedding, identities, loss.identity_scale, loss.identity_margin)
        self.cosface.to(device)
        self.optimiser = torch.optim.AdamW(self._groups(), lr=settings.learning_rate)
        self.ema = Ema(self.network, settings.ema_decay)
        self.balance = InitialValueBalance(
            {"objects": loss.objects, "faces": loss.faces, "scene": loss.scene, "identity": loss.identity}
        )
        self.set_sampler = SetSampler([len(s) for s in sets], settings.temperature, settings.micro_batches)
        self.row_samplers = [RowSampler(s, self.generator) for s in self.sets]
        self.augmenters = [Augmenter(d.augmentation, self.generator) for d in settings.datasets]
        self.grids = {d.size: self._grid(d.size) for d in settings.datasets}
        self.step = 0
        self.means: dict[str, float] = {}

    def _grid(self, size: int) -> tuple[Tensor, Tensor]:
        points, strides = anchor_points(size, size)
        return points.to(self.device), strides.to(self.device)

    def _groups(self) -> list[dict[str, object]]:
        """Weight decay for matrices alone; norms, biases and centres have none."""
        decayed = [p for p in self.network.parameters() if p.ndim > 1]
        plain = [p for p in self.network.parameters() if p.ndim <= 1]
        return [
            {"params": decayed, "weight_decay": self.settings.weight_decay},
            {"params": plain, "weight_decay": 0.0},
            {"params": list(self.cosface.parameters()), "weight_decay": 0.0},
        ]

    def learning_rate(self) -> float:
        """Linear warm-up, then cosine to 1 % (Loshchilov & Hutter 2017)."""
        s = self.settings
        if self.step < s.warmup_steps:
            return s.learning_rate * (self.step + 1) / s.warmup_steps
        share = (self.step - s.warmup_steps) / max(1, s.steps - s.warmup_steps)
        return s.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))

    def train_step(self) -> float:
        """One optimiser step over the micro-batches of all tasks; returns the learning rate used."""
        self.network.train()
        rate = self.learning_rate()
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        for index in self.set_sampler.step():
            self._backward(index)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip_norm)
        self.optimiser.step()
        self.step += 1
        self.ema.update(self.network, self.step)
        return rate

    def _backward(self, index: int) -> None:
        batch = self._draw(index)
        losses = self._losses(batch, self.settings.datasets[index])
        for task, loss in losses.items():
            reached = float(loss.total.detach())
            if not math.isfinite(reached):
                raise TrainingError(f"the {task} loss is {reached} at step {self.step}: lower learning_rate")
        weighted = [self.balance.weigh(task, loss.total) for task, loss in losses.items()]
        torch.stack(weighted).sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        for task, loss in losses.items():
            for name, value in {"total": loss.total.detach(), **loss.parts}.items():
                self._note(f"{task}.{name}", float(value))

    def _note(self, name: str, value: float) -> None:
        self.means[name] = value if name not in self.means else 0.98 * self.means[name] + 0.02 * value

    def _draw(self, index: int) -> MicroBatch:
        entry = self.settings.datasets[index]
        calm = self.step >= self.settings.steps * (1 - self.settings.calm_share)
        mosaic = float(torch.rand((), generator=self.generator)) < entry.mosaic and not calm
        rows = self.row_samplers[index].take(entry.batch * (4 if mosaic else 1))
        return self.augmenters[index](self.sets[index], rows.to(self.device), entry.size, mosaic=mosaic)

    def _losses(self, batch: MicroBatch, entry: DatasetSettings) -> dict[Task, Loss]:
        """The losses of the tasks that the micro-batch's set labels, and no others."""
        bf16 = self.settings.precision == "bf16"
        cast = torch.autocast(self.device.type, torch.bfloat16, enabled=bf16)
        if batch.objects is None and batch.faces is None:
            assert batch.labels is not None
            if entry.kind == "identities":
                with cast:
                    embedding, quality = self.network.face(batch.pictures)
                ramp = min(1.0, self.step / max(1.0, MARGIN_RAMP_SHARE * self.settings.steps))
                return {"identity": self.cosface(embedding, quality, batch.labels, ramp)}
            with cast:
                logits = self.network.scene_only(batch.pictures)
            return {"scene": self._scene_loss(logits.float(), batch.labels)}
        with cast:
            raw = self.network.frame(batch.pictures)
        points, strides = self.grids[entry.size]
        losses: dict[Task, Loss] = {}
        if batch.objects is not None:
            losses["objects"] = detection_loss(self.network.objects, raw.objects, points, strides, batch.objects)
        if batch.faces is not None:
            losses["faces"] = detection_loss(self.network.faces, raw.faces, points, strides, batch.faces)
        return losses

    def _scene_loss(self, logits: Tensor, labels: Tensor) -> Loss:
        smoothing = self.settings.loss.label_smoothing
        loss = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing)
        return Loss(loss, {"top1": (logits.argmax(1) == labels).float().mean()})

    def checkpoint(self) -> Checkpoint:
        """Everything needed to go on."""
        return Checkpoint(
            settings=self.settings,
            objects=self.labels[0],
            scenes=self.labels[1],
            step=self.step,
            network=self.network.state_dict(),
            ema=self.ema.network.state_dict(),
            cosface=self.cosface.state_dict(),
            optimiser=self.optimiser.state_dict(),
            balance=self.balance.state(),
            random=(self.generator.get_state(), torch.get_rng_state()),
            credit=self.set_sampler.credit,
            queues=[s.queue for s in self.row_samplers],
            means=dict(self.means),
        )

    def restore(self, saved: Checkpoint) -> None:
        """Go on where a checkpoint stopped.

        Raises:
            DataError: the checkpoint is of another configuration or other data.
        """
        if (saved.settings.network, saved.settings.datasets) != (self.settings.network, self.settings.datasets):
            raise DataError(
                "--resume: the checkpoint was made with another network or other datasets than the config's"
            )
        if self._of_other_data(saved):
            raise DataError("--resume: the checkpoint was made from other data: its classes, people or pictures differ")
        self.network.load_state_dict(saved.network)
        self.ema.network.load_state_dict(saved.ema)
        self.cosface.load_state_dict(saved.cosface)
        self.optimiser.load_state_dict(saved.optimiser)
        self.balance.restore(saved.balance)
        self.generator.set_state(saved.random[0])
        torch.set_rng_state(saved.random[1])
        self.set_sampler.credit = saved.credit
        for sampler, queue in zip(self.row_samplers, saved.queues, strict=True):
            sampler.queue = queue
        self.step, self.means = saved.step, dict(saved.means)

    def begin_from(self, saved: Checkpoint) -> None:
        """Start a new run from the averaged weights of another one, with fresh optimiser and schedule.

        Raises:
            DataError: the checkpoint is of another network, other classes or other people.
        """
        if saved.settings.network != self.settings.network or self._of_other_data(saved):
            raise DataError("--init: the checkpoint's network, classes or people are not the configuration's")
        self.network.load_state_dict(saved.ema)
        self.ema.network.load_state_dict(saved.ema)
        self.cosface.load_state_dict(saved.cosface)

    def _of_other_data(self, saved: Checkpoint) -> bool:
        queues = zip(saved.queues, self.sets, strict=True)
        return (
            (saved.objects, saved.scenes) != self.labels
            or saved.cosface["centres"].shape != self.cosface.centres.shape
            or any(bool((queue >= len(each)).any()) for queue, each in queues)
        )


def train(
    settings: TrainingSettings,
    data: Path,
    out: Path,
    *,
    resume: bool,
    init: Path | None = None,
    device: torch.device,
    stop_at: int | None = None,
    opened: Callable[[str], None] = lambda _: None,
) -> Generator[Progress, None, None]:
    """Train until the configured steps, yielding after each; checkpoints go to ``out/checkpoint.pt``.

    Close the iterator to stop early with a checkpoint.

    Args:
        settings: the run.
        data: folder laid out as the data's README says.
        out: folder of this run.
        init: checkpoint of another run whose weights this one begins with.
        resume: go on from ``out/checkpoint.pt`` when it is there.
        device: where the network and the data live.
        stop_at: end early at this step, with a checkpoint.
        opened: called with one line per set once they are in memory.

    Raises:
        DataError: data or checkpoint cannot be used.
        TrainingError: a loss is no longer a number; the last checkpoint is from before.
    """
    sets = load_sets(settings.datasets, data)
    for each in sets:
        opened(f"{each.name}: {len(each)} pictures, {len(each.broken)} unreadable")
    trainer = Trainer(settings, sets, (datasets.object_labels(data), datasets.scene_labels(data)), device)
    file = out / "checkpoint.pt"
    if resume and file.is_file():
        trainer.restore(load_checkpoint(file))
    elif init is not None:
        trainer.begin_from(load_checkpoint(init))
    out.mkdir(parents=True, exist_ok=True)
    began, first, end = time.monotonic(), trainer.step, min(settings.steps, stop_at or settings.steps)
    while trainer.step < end:
        rate = trainer.train_step()
        due = trainer.step == end or trainer.step % settings.checkpoint_steps == 0
        if due:
            save_checkpoint(trainer.checkpoint(), file)
        seconds = time.monotonic() - began
        speed = (trainer.step - first) / max(seconds, 1e-9)
        try:
            yield Progress(trainer.step, settings.steps, seconds, speed, rate, dict(trainer.means))
        except GeneratorExit:  # closed between two steps; whatever ends a step half-way leaves the last checkpoint
            if not due:
                save_checkpoint(trainer.checkpoint(), file)
            raise

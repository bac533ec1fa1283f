"""Checkpoint -> model folder: one ONNX file per entry, the weights, and the spec that names them."""

import os
import tempfile
import warnings
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from engines.alignment import SIZE as FACE_SIZE
from engines.any_size import free_size
from engines.network.entries import FaceEntry, FrameEntry
from engines.network.network import Network, build_network
from engines.sizes import STEP
from engines.spec import (
    INPUT,
    NONE_OF_THESE,
    EntrySpec,
    ModelSpec,
    NetworkSettings,
    Thresholds,
    output_names,
    sha256_of,
    write_spec,
)
from engines.tasks import Task
from engines.tasks.scene.groups import groups_of
from engines.training.checkpoint import Checkpoint

OPSET = 17
TRACE_BATCH = 2  # any; the batch dimension is dynamic


@dataclass(frozen=True, slots=True)
class Trained:
    """What is exported: a network's weights and the names of its classes."""

    name: str
    settings: NetworkSettings
    weights: dict[str, Tensor]
    objects: tuple[str, ...]
    scenes: tuple[str, ...]

    @classmethod
    def of(cls, saved: Checkpoint, name: str | None = None) -> "Trained":
        """The averaged weights of a checkpoint, by default under the name of its run."""
        settings = saved.settings
        return cls(name or settings.name, settings.network, saved.ema, saved.objects, saved.scenes)

    def at_temperature(self, task: Task, temperature: float) -> "Trained":
        """The same network with a task's logits divided by ``temperature``, in the weights that make them."""
        layer = f"{task.name}.{task.softmax_layer}"
        divided = {key: self.weights[key] / temperature for key in (f"{layer}.weight", f"{layer}.bias")}
        return replace(self, weights=self.weights | divided)

    def lowered(self, scenes: Collection[str], shift: float) -> "Trained":
        """The same network with the logits of these scenes lower by ``shift``."""
        rows = torch.tensor([scene in scenes for scene in self.scenes])
        bias = self.weights["scene.linear.bias"]
        return replace(self, weights=self.weights | {"scene.linear.bias": bias - shift * rows.to(bias)})

    def with_none(self, logit: float) -> "Trained":
        """The same network with the scene :data:`NONE_OF_THESE`, whose logit is the same for every picture.

        Its probability is above 0.5 where the energy of a picture, the logarithm of the sum of the exponentials of its
        logits, is below it (Liu et al., "Energy-based Out-of-distribution Detection", NeurIPS 2020).
        """
        weight, bias = (self.weights[f"scene.linear.{name}"] for name in ("weight", "bias"))
        rows = {
            "scene.linear.weight": torch.cat([weight, torch.zeros_like(weight[:1])]),
            "scene.linear.bias": torch.cat([bias, torch.full_like(bias[:1], logit)]),
        }
        return replace(self, weights=self.weights | rows, scenes=(*self.scenes, NONE_OF_THESE))

    def network(self) -> Network:
        """The network with its weights, in inference mode."""
        network = build_network(self.settings, len(self.objects), len(self.scenes))
        network.load_state_dict(self.weights)
        return network.eval()


def export(trained: Trained, out: Path, frame_size: tuple[int, int], thresholds: Thresholds) -> ModelSpec:
    """Write the ONNX files of the entries that the tasks need, ``weights.pt`` and ``spec.json`` into ``out``.

    Args:
        trained: network and class names.
        out: the model folder, made when missing.
        frame_size: height and width, multiples of 32, that the frame entry has unless it is opened with others.
        thresholds: kept in the spec.

    Raises:
        ValueError: ``frame_size`` is not allowed.
    """
    if any(side <= 0 or side % STEP for side in frame_size):
        raise ValueError(f"frame_size must be multiples of {STEP}, got {frame_size[0]}x{frame_size[1]}")
    out.mkdir(parents=True, exist_ok=True)
    network = trained.network()
    mirrored = trained.settings.mirrored_faces
    modules = {"frame": FrameEntry(network, frame_size), "face": FaceEntry(network, mirrored=mirrored)}
    sizes = {"frame": frame_size, "face": (FACE_SIZE, FACE_SIZE)}
    exported = {
        name: _export_entry(
            modules[name], out / f"{name}.onnx", sizes[name], output_names(name, trained.settings.tasks)
        )
        for name in trained.settings.entries
    }
    spec = ModelSpec(
        format=1,
        name=trained.name,
        frame=exported.get("frame"),
        face=exported.get("face"),
        objects=trained.objects,
        scenes=trained.scenes,
        scene_groups=groups_of(trained.scenes),
        network=trained.settings,
        thresholds=thresholds,
    )
    torch.save({"model": trained.weights}, out / spec.weights)
    write_spec(spec, out)
    return spec


def _export_entry(entry: nn.Module, file: Path, size: tuple[int, int], names: tuple[str, ...]) -> EntrySpec:
    example = torch.zeros(TRACE_BATCH, *size, 3, dtype=torch.uint8)
    with torch.no_grad():
        values = entry.eval()(example)
    with tempfile.TemporaryDirectory(dir=file.parent) as folder, warnings.catch_warnings():
        # The tracing exporter folds the normalisations into the convolutions and needs no further package.
        warnings.simplefilter("ignore", DeprecationWarning)
        part = Path(folder) / file.name
        torch.onnx.export(
            entry,
            (example,),
            part,
            input_names=[INPUT],
            output_names=list(names),
            dynamic_axes={name: {0: "batch"} for name in (INPUT, *names)},
            opset_version=OPSET,
            dynamo=False,
        )
        if isinstance(entry, FrameEntry):
            onnx.save(free_size(onnx.load(part), *size), part)
        os.replace(part, file)
    shapes = {name: tuple(value.shape[1:]) for name, value in zip(names, values, strict=True)}
    return EntrySpec(file.name, sha256_of(file), *size, shapes, STEP if isinstance(entry, FrameEntry) else None)

"""What a task is to the rest of the code: a declaration that costs nothing to import, and parts loaded by name.

A task is a folder of this package. Its ``__init__`` holds its :class:`Task` and imports nothing heavy, since a client
reads it. What it does stands in modules of these names, each loaded when it is needed and not before:

========== ============================================ ======================================================
module     must have                                    loaded by
========== ============================================ ======================================================
head       ``build``                                    the network: its layers (PyTorch)
loss       ``build``                                    training: its criterion (PyTorch)
data       ``SOURCE``, ``rows``                         training, if it labels whole pictures with a table of its own
compare    ``drift``, ``gaps``                          the self-check and the parity check (NumPy)
metrics    ``gather``, ``score``, ``rows``, ``worst``   evaluation and the model card
render     ``draw``                                     evaluation with ``--plots``
thresholds ``choose``                                   release, if the task has thresholds
truth      ``standard``, ``labelled``                   evaluation, of tasks that :class:`Truth` has no field for
========== ============================================ ======================================================

A task of labels of faces (:func:`face_label`) needs none of them: what its folder does not have is that of
``engines/tasks/face_labels``.

The parts' shapes are protocols where they are used: :class:`engines.network.network.TaskHead`,
:class:`engines.training.criteria.Criterion`, :mod:`engines.evaluation.parts`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

EntryName = Literal["frame", "face"]


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure that stands for a task: an attribute of its scores."""

    name: str
    lower_is_better: bool = False


@dataclass(frozen=True, slots=True)
class Task:
    """What is known of a task without loading any of its parts."""

    name: str
    package: str  # of its folder: __name__ there
    entry: EntryName  # which pictures it sees
    outputs: tuple[str, ...]  # of its head, in the order in which the exported entry gives them
    gives: str  # what a picture is turned into, for the model card
    weakness: str  # known ones, in one sentence, for the model card
    headlines: tuple[Figure, ...]  # what the accuracy gate and the choice of a checkpoint look at
    figures: tuple[str, ...]  # of the table of ``trunkline evaluate``, by their names in the JSON report
    pyramid: bool = False  # whether its head reads the neck's pyramid, else the trunk's features
    per_picture: bool = True  # whether a training picture has one label of it, else boxes
    labels: tuple[str, ...] = ()  # what it tells apart, where that is the same in every model
    softmax_layer: str | None = None  # the linear layer of its head whose logits become probabilities
    optional: bool = False  # a network that does not say which tasks it has has not got it
    standard: Mapping[str, Any] | None = field(default=None, hash=False)  # labels of faces: its usual validation set

    @property
    def of_faces(self) -> bool:
        """Whether it says one of its labels of each face: smoothed per track, and published under its name."""
        return self.entry == "face" and bool(self.labels)

    def part(self, name: str) -> Any:
        """Return a module of the task's folder; of labels of faces, what they share where the folder has none."""
        if self.of_faces and not self.has(name):
            return import_module(f"{__package__}.face_labels.{name}").of(self)
        return import_module(f"{self.package}.{name}")

    def has(self, name: str) -> bool:
        """Whether the task's folder has a module of this name."""
        return find_spec(f"{self.package}.{name}") is not None


def face_label(
    name: str,
    package: str,
    gives: str,
    weakness: str,
    labels: tuple[str, ...],
    standard: Mapping[str, Any] | None = None,
) -> Task:
    """Return a task that says one of its labels of each face: an attribute, such as how a mask is worn.

    Args:
        name: of the task, of its output, and of the field of messages.
        package: of its folder: ``__name__`` there.
        gives: what a face is turned into, for the model card.
        weakness: known ones, in one sentence, for the model card.
        labels: what it tells apart.
        standard: the table of the validation faces in the standard folders (``face_labels/data.py``); None: none.
    """
    return Task(
        name=name,
        package=package,
        entry="face",
        outputs=(name,),
        gives=gives,
        weakness=weakness,
        headlines=(Figure("balanced_accuracy"),),
        figures=("balanced_accuracy", "accuracy", "faces", "pictures"),
        labels=labels,
        softmax_layer="linear",
        optional=True,
        standard=standard,
    )

"""How a face mask is worn."""

from engines.tasks.base import Figure, Task

TASK = Task(
    name="mask",
    package=__name__,
    entry="face",
    outputs=("mask",),
    gives="how a face mask is worn",
    weakness="A hand, a scarf or a beard is taken for a mask at times; masks that are worn wrongly are told worst.",
    headlines=(Figure("balanced_accuracy"),),
    figures=("balanced_accuracy", "accuracy", "faces", "pictures"),
    labels=("mask", "no_mask", "mask_wrong"),
    softmax_layer="linear",
    optional=True,
)

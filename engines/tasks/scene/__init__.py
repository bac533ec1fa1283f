"""What kind of place a whole picture shows."""

from engines.tasks.base import Figure, Task

TASK = Task(
    name="scene",
    package=__name__,
    entry="frame",
    outputs=("scene",),
    gives="a scene class",
    weakness="The scene class is always one of those above, whatever the picture shows.",
    headlines=(Figure("top1"),),
    figures=("top1", "top5", "group_top1", "ece", "pictures"),
    softmax_layer="linear",
)

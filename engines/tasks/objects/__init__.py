"""Boxes of objects and what they show."""

from engines.tasks.base import Figure, Task

TASK = Task(
    name="objects",
    package=__name__,
    entry="frame",
    outputs=("object_boxes", "object_scores", "object_labels"),
    gives="objects",
    weakness="Small objects and crowded scenes are missed.",
    headlines=(Figure("ap50"),),
    figures=(
        "ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar100", "ece", "person_ap50", "pictures", "boxes",
        "ignored",
    ),
    pyramid=True,
    per_picture=False,
)  # fmt: skip

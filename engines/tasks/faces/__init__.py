"""Boxes of faces, each with five landmarks."""

from engines.tasks.base import Figure, Task

TASK = Task(
    name="faces",
    package=__name__,
    entry="frame",
    outputs=("face_boxes", "face_scores", "face_landmarks"),
    gives="faces with five landmarks",
    weakness="Faces below about 20 pixels, in profile or upside down are missed.",
    headlines=(Figure("ap50"), Figure("nme", lower_is_better=True)),
    figures=(
        "ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar100", "ece", "pictures", "boxes", "nme",
        "nme_box", "nme_failure_rate", "nme_missed", "nme_pictures",
    ),
    pyramid=True,
    per_picture=False,
)  # fmt: skip

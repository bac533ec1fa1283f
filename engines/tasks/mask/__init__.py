"""How a face mask is worn."""

from engines.tasks.base import face_label

TASK = face_label(
    name="mask",
    package=__name__,
    gives="how a face mask is worn",
    weakness="A hand, a scarf or a beard is taken for a mask at times; masks that are worn wrongly are told worst.",
    labels=("mask", "no_mask", "mask_wrong"),
    standard={
        "images": "face_detection/images/val",
        "file": "face_detection/annotations/instances_val.json",
        "points": "face_detection/annotations/landmarks5_silver_val.json",
    },
)

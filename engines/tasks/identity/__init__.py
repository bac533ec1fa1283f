"""Whom an aligned face shows: an embedding, and how far it can be trusted."""

from engines.tasks.base import Figure, Task

TASK = Task(
    name="identity",
    package=__name__,
    entry="face",
    outputs=("embedding", "quality"),
    gives="an identity embedding and a quality",
    weakness="People who look alike are taken for each other; the model was not audited for bias, and knows people "
    "unlike those it learned from less well.",
    headlines=(Figure("accuracy"),),
    figures=(
        "accuracy", "accuracy_std", "tar_at_far_1e-1", "tar_at_far_1e-2", "tar_at_far_1e-3", "dir_at_far_1e-1",
        "dir_at_far_1e-2", "accuracy_end_to_end", "accuracy_end_to_end_std",
    ),
)  # fmt: skip

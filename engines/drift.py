"""How far one form of an entry is from another in what it says about the same pictures."""

from collections.abc import Collection

from engines.comparing import Outputs, compare_part
from engines.spec import EntryName, TaskName
from engines.tasks import task


def drift(entry: EntryName, tasks: Collection[TaskName], reference: Outputs, other: Outputs) -> dict[TaskName, float]:
    """What each task of an entry has lost of the reference, from 0 (nothing) to 1 (everything).

    ``compare.py`` in each task's folder says by which measure.

    Args:
        entry: whose outputs they are.
        tasks: those of the model.
        reference: the outputs in f32, batch first.
        other: the outputs of another form for the same batch. What is not a number agrees with nothing.
    """
    own = [name for name in tasks if task(name).entry == entry]
    return {name: compare_part(task(name)).drift(reference, other) for name in own}

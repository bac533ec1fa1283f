"""What networks are for: one folder a task. Everything else loops over :data:`REGISTRY`.

Importing this loads no task's parts; ``engines/tasks/base.py`` says what those are, and docs/extending.md how a task is
added.
"""

from engines.tasks.base import EntryName, Figure, Task
from engines.tasks.faces import TASK as FACES
from engines.tasks.identity import TASK as IDENTITY
from engines.tasks.mask import TASK as MASK
from engines.tasks.objects import TASK as OBJECTS
from engines.tasks.scene import TASK as SCENE

__all__ = ["REGISTRY", "EntryName", "Figure", "Task", "task"]

# In the order of networks' heads and of entries' outputs: a new task comes last.
REGISTRY: tuple[Task, ...] = (OBJECTS, FACES, SCENE, IDENTITY, MASK)
_BY_NAME = {each.name: each for each in REGISTRY}


def task(name: str) -> Task:
    """Return the task of this name; KeyError where there is none."""
    return _BY_NAME[name]

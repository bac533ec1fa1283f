"""What every task's folder must have, and that the list of tasks is free."""

import subprocess
import sys
from pathlib import Path

import pytest

from engines.spec import TASKS, USUAL_TASKS
from engines.tasks import REGISTRY, Task, task

FOLDER = Path(sys.modules[REGISTRY[0].package].__file__).parents[1]  # type: ignore[arg-type]
PARTS = {
    "head": ("build",),
    "loss": ("build",),
    "compare": ("drift", "gaps"),
    "metrics": ("gather", "score", "rows", "worst"),
    "render": ("draw",),
}
SOMETIMES = {"data": ("SOURCE", "rows"), "thresholds": ("choose",), "truth": ("standard", "labelled")}


def test_every_folder_is_a_task_that_is_listed_once() -> None:
    folders = {path.parent.name for path in FOLDER.glob("*/__init__.py")} - {"face_labels"}  # which such tasks share
    assert len(TASKS) == len(set(TASKS)) and set(TASKS) == folders
    assert all(task(name).name == name for name in TASKS)


@pytest.mark.parametrize("each", REGISTRY, ids=lambda each: each.name)
def test_a_task_has_all_its_parts(each: Task) -> None:
    for name, members in PARTS.items():
        assert all(callable(getattr(each.part(name), member)) for member in members), name
    for name, members in SOMETIMES.items():
        needed = each.name not in USUAL_TASKS and name != "thresholds"  # nothing else knows where its labels are
        if needed or each.has(name):
            assert all(hasattr(each.part(name), member) for member in members), name


def test_no_two_tasks_give_outputs_of_one_name() -> None:
    names = [output for each in REGISTRY for output in each.outputs]
    assert len(names) == len(set(names))


def test_to_ask_which_tasks_there_are_loads_nothing() -> None:
    code = "import sys, engines.tasks; print([name for name in ('numpy', 'torch', 'msgspec') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"

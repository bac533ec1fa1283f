"""The page of the steps of improvement: Markdown, picture and JSON, all made of the same runs."""

from pathlib import Path

import msgspec

from engines.evaluation.bootstrap import CONFIDENCE
from engines.pages import render
from engines.study.improvement import StepOutcome
from engines.study.joint import JointOutcome
from engines.study.results import RunSpread, bars, write_results


class Improvement(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the page shows."""

    command: str
    train: tuple[str, ...]  # folders of the data
    validation: tuple[str, ...]
    labels: tuple[str, ...]
    seeds: tuple[int, ...]
    steps: dict[str, str]  # what each changes, in words; the baseline first
    joint: JointOutcome
    runs: tuple[StepOutcome, ...]  # at least one of each step

    def of(self, step: str, figure: str) -> RunSpread:
        """A figure of a step over its seeds."""
        spread = RunSpread.of(getattr(run, figure) for run in self.runs if run.name == step)
        assert spread is not None
        return spread


def write_page(found: Improvement, out: Path) -> Path:
    """Write ``improvement.md``, ``.png`` and ``.json``; each replaces the old one when it is whole.

    Returns:
        The Markdown page.
    """
    bar = {step: found.of(step, "top1") for step in found.steps}
    bar |= {f"{found.joint.model}, {it.labels} scenes": RunSpread(it.top1, None) for it in found.joint.figures}
    picture = bars(list(bar), {"": list(bar.values())}, "accuracy, mean and deviation")
    return write_results(out, "improvement", found, page_of(found), picture)


def page_of(found: Improvement) -> str:
    """The Markdown of a study."""
    return render(
        "engines.study",
        "improvement.md.j2",
        found=found,
        joint=found.joint,
        baseline=found.of(next(iter(found.steps)), "top1").mean,
        pictures=found.runs[0].pictures,
        confidence=CONFIDENCE,
    )

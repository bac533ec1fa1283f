"""How far the labels of one form are from those of another."""

from dataclasses import dataclass

from engines.comparing import Gap, Outputs, distance, greatest
from engines.tasks.base import Task


@dataclass(frozen=True)
class FaceLabelDistance:
    """Of a task's probabilities."""

    output: str

    def drift(self, reference: Outputs, other: Outputs) -> float:
        """The total variation distance of the probabilities."""
        return distance(reference, other, self.output)

    def gaps(self, reference: Outputs, other: Outputs) -> dict[str, Gap]:
        """Differences of the probabilities."""
        return {self.output: Gap(greatest(reference[self.output], other[self.output]), "score")}


def of(task: Task) -> FaceLabelDistance:
    """What ``compare`` of a task's folder has."""
    return FaceLabelDistance(task.outputs[0])

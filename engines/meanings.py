"""What a model's answers mean: curves and thresholds of its scores, groups of its scenes."""

from itertools import pairwise
from typing import Annotated, Final, Literal

import msgspec

Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
NONE_OF_THESE: Final = "none of these"  # the scene, or the group of scenes, of pictures that show none that is known


class ScoreCurves(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the network's scores mean: the probability that a detection is right, straight between the knots."""

    method: Literal["sigmoid", "isotonic"]  # by which they were fitted
    knots: tuple[Share, ...]  # scores of the network, rising from 0 to 1
    values: tuple[tuple[Share, ...], ...]  # for each label the probability at each knot, never falling

    def __post_init__(self) -> None:
        if self.knots[:1] != (0.0,) or self.knots[-1:] != (1.0,) or not _rises(self.knots, strictly=True):
            raise ValueError(f"knots must rise from 0 to 1, got {list(self.knots)}")
        if not self.values or any(
            len(row) != len(self.knots) or not _rises(row, strictly=False) for row in self.values
        ):
            raise ValueError("values must have a row for each label, with a value for each knot, none below the last")


class Thresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the model's scores start to mean something; a pipeline configuration may override them.

    Where there are curves, scores are what those make of the network's.
    """

    object_score: Share = 0.35
    object_iou: Share = 0.45  # NMS overlap
    face_score: Share = 0.45
    face_iou: Share = 0.4
    identity_similarity: Annotated[float, msgspec.Meta(ge=-1.0, le=1.0)] = 0.5  # cosine
    object_scores: tuple[Share, ...] | None = None  # of each label, in place of object_score
    object_curves: ScoreCurves | None = None
    face_curve: ScoreCurves | None = None  # of one label

    def at(self, *, object_score: float | None = None, face_score: float | None = None) -> "Thresholds":
        """The same with other scores: ``object_score`` for all labels; None leaves what there is."""
        changed: dict[str, float | None] = {}
        if object_score is not None:
            changed |= {"object_score": object_score, "object_scores": None}
        if face_score is not None:
            changed["face_score"] = face_score
        return msgspec.structs.replace(self, **changed)


class SceneGroup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Scenes that are told as one."""

    name: str
    where: Literal["indoors", "outdoors"] | None
    scenes: tuple[str, ...]


def _rises(values: tuple[float, ...], *, strictly: bool) -> bool:
    return all(a < b or (a == b and not strictly) for a, b in pairwise(values))

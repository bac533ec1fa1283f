"""The head of faces."""

from torch import Tensor

from engines.network.detection_head import LANDMARKS, DetectionHead, rows_of
from engines.network.features import Grid
from engines.spec import NetworkSettings
from engines.tasks.faces.decode import MAX_ROWS


class FacesHead(DetectionHead):
    """A logit, a box and five landmarks at every point of the pyramid."""

    def exported(self, raw: Tensor, grid: Grid | None) -> tuple[Tensor, ...]:
        """Boxes (N, K, 4) xyxy, scores (N, K) and landmarks (N, K, 5, 2) in input pixels, best first."""
        assert grid is not None
        logits, boxes, landmarks = self.split(raw.float(), grid)
        assert landmarks is not None
        scores, rows = logits[..., 0].topk(min(MAX_ROWS, grid.cells), dim=1)
        points = rows_of(landmarks.flatten(2), rows).reshape(-1, rows.shape[1], LANDMARKS, 2)
        return rows_of(boxes, rows), scores.sigmoid(), points


def build(settings: NetworkSettings, classes: int) -> FacesHead:
    """A head with fresh weights; faces are of one class."""
    return FacesHead(settings, 1, landmarks=True)

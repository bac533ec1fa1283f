"""The head of objects."""

import torch
from torch import Tensor

from engines.network.detection_head import DetectionHead, rows_of
from engines.network.features import Grid
from engines.spec import NetworkSettings
from engines.tasks.objects.decode import MAX_ROWS


class ObjectsHead(DetectionHead):
    """Class logits and boxes at every point of the pyramid."""

    def exported(self, raw: Tensor, grid: Grid | None) -> tuple[Tensor, ...]:
        """Boxes (N, K, 4) xyxy input pixels, scores (N, K) and labels (N, K) of the best points, best first."""
        assert grid is not None
        logits, boxes, _ = self.split(raw.float(), grid)
        best, labels = logits.max(dim=-1)
        scores, rows = best.topk(min(MAX_ROWS, grid.cells), dim=1)
        return rows_of(boxes, rows), scores.sigmoid(), labels.gather(1, rows).to(torch.int32)


def build(settings: NetworkSettings, classes: int) -> ObjectsHead:
    """A head with fresh weights."""
    return ObjectsHead(settings, classes, landmarks=False, class_width=settings.class_width)

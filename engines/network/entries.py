"""The two entries as they are exported and served: uint8 pictures in, decoded rows out."""

import torch
from torch import Tensor, nn

from engines.network.heads import LANDMARKS
from engines.network.network import Network, anchor_points

MAX_OBJECTS = 300
MAX_FACES = 100


class FrameEntry(nn.Module):
    """Whole frames of one size. Decoding and top-k happen here, so that the host gets a few hundred rows."""

    points: Tensor
    strides: Tensor

    def __init__(self, network: Network, size: tuple[int, int]) -> None:
        super().__init__()
        self.network = network
        points, strides = anchor_points(*size)
        self.max_objects = min(MAX_OBJECTS, len(points))
        self.max_faces = min(MAX_FACES, len(points))
        self.register_buffer("points", points, persistent=False)
        self.register_buffer("strides", strides, persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """uint8 (N, H, W, 3) -> the outputs of the network's tasks, rows sorted by score.

        Their order is that of :func:`engines.spec.output_names`.
        """
        raw = self.network.frame(images)
        outputs: tuple[Tensor, ...] = ()
        if raw.objects is not None:
            outputs += self._objects(raw.objects)
        if raw.faces is not None:
            outputs += self._faces(raw.faces)
        if raw.scene is not None:
            outputs += (raw.scene.float().softmax(dim=1),)
        return outputs

    def _objects(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (N, K, 4), scores (N, K) and labels (N, K)."""
        assert self.network.objects is not None
        logits, boxes, _ = self.network.objects.split(raw.float(), self.points, self.strides)
        best, labels = logits.max(dim=-1)
        scores, rows = best.topk(self.max_objects, dim=1)
        return _rows(boxes, rows), scores.sigmoid(), labels.gather(1, rows).to(torch.int32)

    def _faces(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (N, K, 4), scores (N, K) and landmarks (N, K, 5, 2)."""
        assert self.network.faces is not None
        logits, boxes, landmarks = self.network.faces.split(raw.float(), self.points, self.strides)
        assert landmarks is not None
        scores, rows = logits[..., 0].topk(self.max_faces, dim=1)
        points = _rows(landmarks.flatten(2), rows).reshape(-1, rows.shape[1], LANDMARKS, 2)
        return _rows(boxes, rows), scores.sigmoid(), points


class FaceEntry(nn.Module):
    """Aligned faces."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (N, 112, 112, 3) -> embedding and quality."""
        return self.network.face(images)


def _rows(values: Tensor, rows: Tensor) -> Tensor:
    return values.gather(1, rows[..., None].expand(-1, -1, values.shape[-1]))

"""The two entries as they are exported and served: uint8 pictures in, decoded rows out."""

import torch
from torch import Tensor, nn

from engines.network.heads import LANDMARKS
from engines.network.network import Network, anchor_points

MAX_OBJECTS = 300
MAX_FACES = 100
FRAME_OUTPUTS = (
    "object_boxes",
    "object_scores",
    "object_labels",
    "face_boxes",
    "face_scores",
    "face_landmarks",
    "scene",
)
FACE_OUTPUTS = ("embedding", "quality")


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
        """uint8 (N, H, W, 3) -> tensors in the order of FRAME_OUTPUTS, rows sorted by score."""
        raw = self.network.frame(images)
        logits, boxes, _ = self.network.objects.split(raw.objects.float(), self.points, self.strides)
        best, labels = logits.max(dim=-1)
        scores, rows = best.topk(self.max_objects, dim=1)
        face_logits, face_boxes, landmarks = self.network.faces.split(raw.faces.float(), self.points, self.strides)
        assert landmarks is not None
        face_scores, face_rows = face_logits[..., 0].topk(self.max_faces, dim=1)
        return (
            _rows(boxes, rows),
            scores.sigmoid(),
            labels.gather(1, rows).to(torch.int32),
            _rows(face_boxes, face_rows),
            face_scores.sigmoid(),
            _rows(landmarks.flatten(2), face_rows).reshape(-1, face_rows.shape[1], LANDMARKS, 2),
            raw.scene.float().softmax(dim=1),
        )


class FaceEntry(nn.Module):
    """Aligned faces."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (N, 112, 112, 3) -> tensors in the order of FACE_OUTPUTS."""
        return self.network.face(images)


def _rows(values: Tensor, rows: Tensor) -> Tensor:
    return values.gather(1, rows[..., None].expand(-1, -1, values.shape[-1]))

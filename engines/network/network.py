"""One network, two entries, up to four tasks."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from engines.alignment import SIZE as FACE_SIZE
from engines.network.heads import STRIDES, DetectionHead, IdentityHead, SceneHead
from engines.network.layers import normalise_pixels
from engines.network.neck import Neck
from engines.network.trunk import Trunk
from engines.spec import NetworkSettings


class FrameLogits(NamedTuple):
    """Dense outputs of the frame entry, before decoding; None without the task. A = anchor points of all levels."""

    objects: Tensor | None = None  # (N, A, classes + 4)
    faces: Tensor | None = None  # (N, A, 1 + 4 + 10)
    scene: Tensor | None = None  # (N, scenes)


class Network(nn.Module):
    """Trunk, neck and heads. Parts are passed in; :func:`build_network` makes them from settings.

    A task without its head is one that the network does not know. The neck serves objects and faces alone.
    """

    def __init__(
        self,
        trunk: Trunk,
        neck: Neck | None = None,
        objects: DetectionHead | None = None,
        faces: DetectionHead | None = None,
        scene: SceneHead | None = None,
        identity: IdentityHead | None = None,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.neck = neck
        self.objects = objects
        self.faces = faces
        self.scene = scene
        self.identity = identity

    def frame(self, images: Tensor) -> FrameLogits:
        """The frame entry: uint8 RGB (N, H, W, 3), sides multiples of 32, -> dense outputs."""
        c3, c4, c5 = self.trunk(_pixels(images), "frame")
        pyramid = None if self.neck is None else self.neck((c3, c4, c5))
        return FrameLogits(
            objects=None if self.objects is None else self.objects(pyramid),
            faces=None if self.faces is None else self.faces(pyramid),
            scene=None if self.scene is None else self.scene(c4, c5),
        )

    def scene_only(self, images: Tensor) -> Tensor:
        """The scene logits (N, scenes) of the frame entry without neck and detection heads, for training."""
        assert self.scene is not None
        _, c4, c5 = self.trunk(_pixels(images), "frame")
        logits: Tensor = self.scene(c4, c5)
        return logits

    def face(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The face entry: uint8 RGB (N, 112, 112, 3) aligned faces -> unit embeddings (N, D), qualities (N,)."""
        assert self.identity is not None
        _, _, c5 = self.trunk(_pixels(images), "face")
        embedding, quality = self.identity(c5)
        return embedding, quality


def _pixels(images: Tensor) -> Tensor:
    return normalise_pixels(images).contiguous(memory_format=torch.channels_last)


def build_network(settings: NetworkSettings, objects: int, scenes: int) -> Network:
    """A network with fresh weights for the tasks of the settings, so many object classes and so many scenes."""
    tasks = settings.tasks
    cells = (-(-FACE_SIZE // STRIDES[-1])) ** 2
    return Network(
        trunk=Trunk(settings),
        neck=Neck(settings) if "objects" in tasks or "faces" in tasks else None,
        objects=DetectionHead(settings, objects, landmarks=False) if "objects" in tasks else None,
        faces=DetectionHead(settings, 1, landmarks=True) if "faces" in tasks else None,
        scene=SceneHead(settings, scenes) if "scene" in tasks else None,
        identity=IdentityHead(settings, cells) if "identity" in tasks else None,
    )


def anchor_points(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Centres (A, 2) xy in input pixels of every cell, levels in the order of STRIDES, and strides (A,)."""
    points, strides = [], []
    for stride in STRIDES:
        y, x = torch.meshgrid(torch.arange(height // stride), torch.arange(width // stride), indexing="ij")
        points.append((torch.stack([x, y], dim=-1).reshape(-1, 2) + 0.5) * stride)
        strides.append(torch.full((points[-1].shape[0],), float(stride)))
    return torch.cat(points), torch.cat(strides)

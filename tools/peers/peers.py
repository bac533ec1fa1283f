"""Who is compared with Trunkline, in which group, and what each needs in its environment."""

import shutil
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from engines.errors import ConfigError


class Group(StrEnum):
    """What is compared; the part of ``trunkline benchmark`` that peers of a group are held against."""

    pipeline = "pipeline"
    decode = "decode"
    transport = "transport"


HEADINGS: Final = {
    Group.pipeline: "Video file to results, one file as fast as it goes",
    Group.decode: "Video file to frames, no model",
    Group.transport: "1080p frames from one process to another",
}
TRUNKLINE: Final = {
    Group.pipeline: "Objects, faces, scene, tracks, identities and smoothing, published to a subscriber.",
    Group.decode: "Its capture stage alone.",
    Group.transport: "Its ring in shared memory.",
}
# As the Makefile has it: without an NVIDIA GPU the release for which package indexes offer a small CPU build.
TORCH: Final = "torch" if shutil.which("nvidia-smi") else "torch==2.13.0"


@dataclass(frozen=True, slots=True)
class Peer:
    """What a user would pick instead."""

    name: str  # for --only; its environment, and its file in this folder
    title: str
    group: Group
    requirements: tuple[str, ...]
    remark: str  # what it does, and what not, in one or two sentences


OPENCV_LOOP: Final = Peer(
    "opencv_loop",
    "OpenCV + ONNX Runtime",
    Group.pipeline,
    ("numpy==2.4.6", "onnxruntime==1.32.0", "opencv-python-headless==5.0.0.93"),
    "A plain loop around the same ONNX file: objects and faces; no tracks, identities, smoothing or messages.",
)
ULTRALYTICS: Final = Peer(
    "ultralytics_track",
    "Ultralytics + ByteTrack",
    Group.pipeline,
    (TORCH, "ultralytics==8.4.190", "openvino==2026.4.1", "lap==0.5.13", "nncf==3.4.0"),
    "track(stream=True) on the OpenVINO export of a YOLO26 of equal cost and input size; boxes and tracks, no more.",
)
ROBOFLOW: Final = Peer(
    "roboflow_pipeline",
    "Roboflow pipeline",
    Group.decode,
    ("streamvision==0.1.3",),
    "InferencePipeline around an empty model. It hands out BGR pictures, Trunkline's stage the decoder's planes.",
)
IMAGEZMQ: Final = Peer(
    "imagezmq_transport",
    "imagezmq",
    Group.transport,
    ("imagezmq==1.2.0", "numpy==2.4.6", "pyzmq==27.3.0"),
    "Its default, request and reply, over ipc. The receiver has its own copy of each frame.",
)
QUEUE: Final = Peer(
    "queue_transport",
    "multiprocessing.Queue",
    Group.transport,
    ("numpy==2.4.6",),
    "Each frame is pickled. The receiver has its own copy.",
)
PEERS: Final = (OPENCV_LOOP, ULTRALYTICS, ROBOFLOW, IMAGEZMQ, QUEUE)


def chosen(only: str | None) -> tuple[Peer, ...]:
    """Return the peers of a list of names with commas; all for None.

    Raises:
        ConfigError: a name is no peer's.
    """
    if only is None:
        return PEERS
    names, known = [name.strip() for name in only.split(",")], [peer.name for peer in PEERS]
    for name in names:
        if name not in known:
            raise ConfigError(f"--only names {name!r}, but must be of {', '.join(known)}")
    return tuple(peer for peer in PEERS if peer.name in names)

"""A clip of two hard cuts for whole runs: the made model sees the same person in the same place all the time."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engines.spec import Model
from pipeline.gallery.gallery import Gallery
from tests.pipeline.made_runs import EMBEDDING, Run, check_ends
from tests.pipeline.made_scenes import HEIGHT, WIDTH, rgb, seen, wide

SHOT = 20  # frames
FRAMES = 3 * SHOT


def cut_clip(make_clip: Callable[..., Path], path: Path) -> Path:
    """Three shots of SHOT frames each, the last of the place of the first."""
    shots = [rgb(0.7 * seen(wide(seed))) for seed in (1, 1001, 1)]

    def draw(index: int) -> npt.NDArray[np.uint8]:
        return shots[index // SHOT]

    return make_clip(path, FRAMES, (WIDTH, HEIGHT), 25, draw)


def known(path: Path, model: Model) -> dict[str, object]:
    """The settings ``identity`` of a gallery in which the made model's person is enrolled."""
    with Gallery(path, model.fingerprint) as gallery:
        gallery.enroll("Ada", EMBEDDING, ["ada.jpg"])
    return {"gallery": str(path), "min_face_px": 10}


def nothing_survives(run: Run, stream: str) -> None:
    """Of tracks and names in a run over :func:`cut_clip`; each shot has its own."""
    frames = run.frames(stream)
    assert len(frames) == FRAMES
    for kind in ("objects", "faces"):
        ids = [
            {thing.track for frame in frames[at : at + SHOT] for thing in getattr(frame, kind)} for at in (0, 20, 40)
        ]
        assert ids == [{1}, {2}, {3}], kind
    for cut in (SHOT, 2 * SHOT):
        assert frames[cut - 1].faces[0].identity is not None
        assert not frames[cut].objects and not frames[cut].faces
        assert frames[cut + 2].faces[0].identity is None
    ends = check_ends(run, "cut", "stopped", "withdrawn")
    for kind in ("object", "face", "identity", "scene"):
        assert (ends[kind, "cut"], ends[kind, "stopped"]) == (2, 1), kind

"""What training really sees, as a sheet of pictures."""

from collections.abc import Sequence

import msgspec
import torch

from engines.arrays import Pixels
from engines.training.augmentation import Augmenter, MicroBatch, build_augmenters
from engines.training.datasets import LoadedDatasets, PictureSet
from engines.training.drawing import drawn, sheet
from engines.training.sampling import RowSampler
from engines.training.settings import AugmentationSettings, DatasetSettings

COLUMNS = 8
STILL = AugmentationSettings(
    scale=(1.0, 1.0),
    shift=0.0,
    stretch=0.0,
    rotate_deg=0.0,
    flip=0.0,
    brightness=0.0,
    contrast=0.0,
    saturation=0.0,
    grey=0.0,
    low_light=0.0,
    blur=0.0,
    noise=0.0,
    jpeg=0.0,
    erase=0.0,
)
FULL: dict[str, object] = {  # strong enough to see what each one does
    "scale": (0.5, 2.0),
    "shift": 0.4,
    "stretch": 0.4,
    "rotate_deg": 30.0,
    "flip": 1.0,
    "brightness": 0.7,
    "contrast": 0.8,
    "saturation": 1.0,
    "grey": 1.0,
    "low_light": 1.0,
    "blur": 1.0,
    "noise": 30.0,
    "jpeg": 1.0,
    "erase": 1.0,
    "paste_faces": 1.0,
    "paste_objects": 1.0,
}
NAMES = ("none", "mosaic", *FULL)


def preview(
    entries: Sequence[DatasetSettings], loaded: LoadedDatasets, shown: Sequence[str], rows: int, seed: int
) -> Pixels:
    """Micro-batches as training draws them, ``rows`` rows of each set that is ``shown``."""
    generator = torch.Generator().manual_seed(seed)
    augmenters = build_augmenters(entries, loaded.sets, generator)
    lines = []
    for entry, data, augmenter in zip(entries, loaded.sets, augmenters, strict=True):
        sampler = RowSampler(data, generator)
        for _ in range(rows if entry.name in shown else 0):
            mosaic = float(torch.rand((), generator=generator)) < entry.mosaic
            width, height = size = next(iter(entry.shapes), (entry.size, entry.size))
            batch = augmenter(data, sampler.take(COLUMNS * (4 if mosaic else 1)), size, mosaic=mosaic)
            caption = f"{entry.name}, {width} x {height} pixels{', mosaic' if mosaic else ''}"
            lines.append((caption, _cells(batch, data, loaded)))
    return sheet(lines, COLUMNS)


def preview_each(
    entry: DatasetSettings,
    data: PictureSet,
    loaded: LoadedDatasets,
    faces: PictureSet | None,
    names: Sequence[str],
    seed: int,
) -> Pixels:
    """The same pictures of one set under each of the named augmentations (:data:`NAMES`) alone, at full strength."""
    lines = []
    for name in names:
        if name == "mosaic" and entry.kind != "boxes":
            continue
        settings = msgspec.structs.replace(STILL, **({name: FULL[name]} if name in FULL else {}))
        count = COLUMNS * (4 if name == "mosaic" else 1)
        chosen = torch.arange(count) * max(1, len(data) // count) % len(data)
        augmenter = Augmenter(settings, torch.Generator().manual_seed(seed), faces)
        batch = augmenter(data, chosen, (entry.size, entry.size), mosaic=name == "mosaic")
        lines.append((f"{entry.name}: {name}", _cells(batch, data, loaded)))
    return sheet(lines, COLUMNS)


def _cells(batch: MicroBatch, data: PictureSet, loaded: LoadedDatasets) -> list[Pixels]:
    return drawn(batch, loaded.objects, loaded.labels_of(data.kind))

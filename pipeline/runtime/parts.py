"""What stages are made of, opened by whoever runs them and nowhere else."""

from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from engines.engine import Engine
from engines.planes import PlanesEngine
from engines.spec import EntryName, Model
from pipeline.gallery.gallery import Gallery
from pipeline.identity.face_entry import FaceQueue
from pipeline.inference import stage
from pipeline.inference.views import CropChoices
from pipeline.runtime.event_publisher import EventPublisher
from pipeline.runtime.postprocess import Postprocessor
from pipeline.runtime.run_books import RunBooks
from pipeline.settings.schema import Config
from pipeline.settings.sinks import wants_packets
from pipeline.sinks.fan_out import Sinks
from pipeline.sinks.video import Recorder
from pipeline.wire.packet_sockets import PacketHub

if TYPE_CHECKING:  # it needs the extra "traces"
    from pipeline.runtime.tracing import Traces

Need = Literal[
    "source", "frame engine", "face engine", "crops", "gallery", "publisher", "recorder", "traces"
]  # what may have to be opened


@dataclass(slots=True)
class Parts:
    """What the stages of a thread or process are made of; None: no stage of it needs that, or the run has none.

    Attributes:
        planes_engine: the frame engine, where it letterboxes pictures itself.
        recorder: closed by the thread that it runs in.
        galleries: one for each shard; none where the run has no gallery.
        faces: the face entry, for a thread of its own.
        postprocessor: what turns outputs into results, once it is made; of one shard.
        event_publisher: what turns results into messages, once it is made.
        crops: chooses parts of pictures that the network sees besides them.
        traces: what tells OpenTelemetry of batches and frames.
        array: memory for the network's input, of a shape; None: each batch has its own.
    """

    config: Config
    model: Model
    publisher: Sinks | None = None
    packets: PacketHub | None = None
    frame_engine: Engine | None = None
    planes_engine: PlanesEngine | None = None
    galleries: tuple[Gallery, ...] = ()
    faces: FaceQueue | None = None
    recorder: Recorder | None = None
    postprocessor: Postprocessor | None = None
    event_publisher: EventPublisher | None = None
    crops: CropChoices | None = None
    traces: "Traces | None" = None
    array: Callable[[tuple[int, ...]], npt.NDArray[np.uint8]] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frame entry."""
        entry = self.model.spec.entry("frame")
        return entry.height, entry.width


def open_parts(
    config: Config,
    model: Model,
    needs: Collection[Need],
    opened: ExitStack,
    shards: int = 1,
    folder: str | None = None,
    books: "RunBooks | None" = None,
) -> Parts:
    """Open what some stages need, as far as the run has it.

    Args:
        config: of the run.
        model: that it names.
        needs: of the stages, see :func:`pipeline.runtime.graph.needs_of`.
        opened: closes it.
        shards: that share these parts.
        folder: of the sockets between processes; None: there are none.
        books: where what becomes of messages is counted; None: in this process alone.

    Raises:
        TrunklineError: something cannot be had.
    """
    parts = Parts(config, model)

    def entry(name: EntryName) -> Engine:
        return opened.enter_context(stage.open_entry(model, name, config.model))

    if "publisher" in needs:
        if wants_packets(config):
            parts.packets = opened.enter_context(PacketHub(config.packets, folder))
        address = None if parts.packets is None else parts.packets.address
        parts.publisher = opened.enter_context(Sinks(config, address, None if books is None else books.sinks))
    if "traces" in needs and config.traces.endpoint is not None:
        from pipeline.runtime.tracing import Traces

        parts.traces = opened.enter_context(Traces(config.traces))
    if "frame engine" in needs:
        parts.frame_engine = entry("frame")
        if config.inference.preprocess == "gpu":
            parts.planes_engine = stage.open_planes(parts.frame_engine)
    if "crops" in needs:
        parts.crops = CropChoices()
    if "gallery" in needs and config.identity.gallery is not None:
        path, fingerprint = config.identity.gallery, model.fingerprint
        parts.galleries = tuple(opened.enter_context(Gallery(path, fingerprint)) for _ in range(shards))
    if "face engine" in needs and config.identity.gallery is not None:
        parts.faces = FaceQueue(entry("face"))
    if "recorder" in needs and config.record.directory is not None:
        parts.recorder = Recorder(config.record, model.spec.objects, model.spec.scene_labels, config.streams)
    return parts

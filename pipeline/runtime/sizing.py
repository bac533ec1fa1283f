"""How much shared memory a run of processes takes, and which process captures which streams."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from engines.hardware import usable_cores
from engines.spec import Model
from pipeline.batching.batcher import backlog
from pipeline.runtime.ring import Layout, Ring
from pipeline.runtime.sharding import choose_shard, shard_count
from pipeline.runtime.workers.capture import LIVE_WAITING
from pipeline.settings.schema import Config, StreamSettings
from pipeline.sinks.recording import recorder_room
from pipeline.sources.capture import mode, picture_bytes, waits_for_nobody

MIN_INPUTS: Final = 5  # batches: one is filled, three are with the engine, one waits behind it
MAX_INPUTS: Final = 18
MORE_BATCHES: Final = 2  # whose frames are held though their input is not: being gathered, being finished
STREAMS_EACH: Final = 8  # that a capture process decodes, unless the configuration says how many there are


@contextmanager
def rings(config: Config, model: Model) -> Iterator[tuple[Ring, Ring]]:
    """The shared memory of a run, with room for streams that are added; ConfigError where there is too little."""
    entry, batch = model.spec.entry("frame"), config.inference.max_batch
    batches = min(max(MIN_INPUTS, usable_cores() + 2), MAX_INPUTS)  # an engine has one for each core at most
    spare = config.zmq.spare_streams
    live = [*(waits_for_nobody(stream) for stream in config.streams), *[True] * spare]
    waiting = sum(1 + (LIVE_WAITING if each else backlog(live.count(False), batch)) for each in live)
    recorded = 0 if config.record.directory is None else recorded_frames(live, batch)
    count = waiting + (batches + MORE_BATCHES) * batch + recorded
    largest = max(picture_bytes(stream, config.zmq.live_picture) for stream in config.streams)
    streams = tuple(stream.name for stream in config.streams)
    frames = Ring.create(Layout(count, largest, streams, spare), f"{count} frames")
    frames.streams.tune(config)
    there: list[tuple[int, bool]] = []
    for stream in config.streams:
        is_live = waits_for_nobody(stream)
        shard = choose_shard(shard_count(config), is_live, there)
        frames.begin(stream.name, mode(stream), shard, stream.inference_fps)
        there.append((shard, is_live))
    try:
        shape = Layout(batches, batch * entry.height * entry.width * 3)
        inputs = Ring.create(shape, f"{batches} batches", frames.lock)
    except BaseException:
        frames.close()
        raise
    try:
        yield frames, inputs
    finally:
        inputs.close()
        frames.close()


def recorded_frames(live: Sequence[bool], max_batch: int) -> int:
    """Slots for what waits for the recorder or is with it: a slow one must not take those that live frames need.

    Args:
        live: of each stream, whether it is one; a file has its limit in
            :class:`pipeline.runtime.workers.capture.Admission`.
        max_batch: frames.
    """
    files = live.count(False)
    return 1 + len(live) * recorder_room(len(live)) + files * backlog(files, max_batch)


def shares(streams: tuple[StreamSettings, ...], processes: int | None) -> list[tuple[StreamSettings, ...]]:
    """The streams of each capture process, dealt out in turn; by default as few as have STREAMS_EACH at most."""
    count = min(len(streams), processes or -(-len(streams) // STREAMS_EACH))
    return [streams[index::count] for index in range(count)]

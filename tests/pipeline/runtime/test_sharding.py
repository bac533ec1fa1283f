"""Which stream belongs to which shard, and the part of a batch that each shard gets."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.boxes import letterbox
from pipeline.frames.types import Batch, Inferred, Prepared
from pipeline.runtime import sharding
from pipeline.runtime.graph import STAGES, ProcessPlan
from pipeline.runtime.sharding import choose_shard, shard_count, split
from pipeline.settings.schema import Config
from tests.pipeline.made_frames import make_frame


def inferred(streams: list[str], skipped: frozenset[int] = frozenset()) -> Inferred:
    """A batch of a frame of each of these streams, whose outputs are the places of the frames in it."""
    frames = tuple(make_frame(stream, place) for place, stream in enumerate(streams))
    places = [place for place in range(len(frames)) if place not in skipped]
    boxes = tuple(letterbox((10 + place, 10), (64, 64)) for place in places)
    prepared = Prepared(Batch(frames, 1, skipped), np.zeros((len(places), 4, 4, 3), np.uint8), boxes, 2)
    return Inferred(prepared, {"scene": np.array(places, np.float32).reshape(-1, 1)}, 3, 4)


@given(
    st.lists(st.tuples(st.sampled_from("abcde"), st.booleans()), min_size=1, max_size=12),
    st.integers(1, 4),
)
def test_each_frame_goes_to_its_shard_once_with_its_own_outputs(rows: list[tuple[str, bool]], shards: int) -> None:
    item = inferred([stream for stream, _ in rows], frozenset(place for place, (_, skip) in enumerate(rows) if skip))
    parts = split(item, shards, lambda stream: "abcde".index(stream) % shards)
    assert sorted(frame.seq for _, part in parts for frame in part.frames) == list(range(len(rows)))
    for shard, part in parts:
        assert part.frames and {"abcde".index(frame.stream) % shards for frame in part.frames} == {shard}
        assert [frame.seq for frame in part.frames] == sorted(frame.seq for frame in part.frames)
        batch = part.prepared.batch
        assert [rows[frame.seq][1] for frame in part.frames] == [
            place in batch.skipped for place in range(len(batch.frames))
        ]
        shown = [frame.seq for frame in batch.to_infer]
        assert part.outputs["scene"][:, 0].tolist() == shown
        assert part.prepared.letterboxes == tuple(letterbox((10 + seq, 10), (64, 64)) for seq in shown)
        assert part.timestamps == item.timestamps


def test_a_single_shard_gets_the_batch_as_it_is() -> None:
    item = inferred(["a", "b"])
    ((shard, part),) = split(item, 1, lambda stream: 0)
    assert shard == 0 and part is item


@given(st.lists(st.booleans(), max_size=20), st.integers(1, 5))
def test_streams_of_one_kind_are_spread_evenly(kinds: list[bool], shards: int) -> None:
    there: list[tuple[int, bool]] = []
    for _ in kinds:
        there.append((choose_shard(shards, True, there), True))
    counts = [sum(shard == each for shard, _ in there) for each in range(shards)]
    assert max(counts) - min(counts) <= 1


def test_files_and_live_streams_are_kept_apart_where_that_goes() -> None:
    there: list[tuple[int, bool]] = []
    for live in (True, False, False, True):
        there.append((choose_shard(2, live, there), live))
    assert {shard for shard, live in there if live}.isdisjoint({shard for shard, live in there if not live})


def of(streams: int, links: str, shards: object = "auto") -> Config:
    rows = [{"name": f"cam{index}", "source": f"rtsp://cam/{index}"} for index in range(streams)]
    return msgspec.convert({"streams": rows, "links": links, "postprocess": {"shards": shards}}, Config)


@pytest.mark.parametrize(
    ("cores", "streams", "links", "count"),
    [(2, 16, "zmq", 1), (8, 16, "zmq", 2), (64, 3, "zmq", 3), (64, 100, "zmq", 8), (64, 100, "queue", 1)],
)
def test_auto_takes_shards_where_there_are_cores_and_streams_for_them(
    monkeypatch: pytest.MonkeyPatch, cores: int, streams: int, links: str, count: int
) -> None:
    monkeypatch.setattr(sharding, "usable_cores", lambda: cores)
    assert shard_count(of(streams, links)) == count
    assert shard_count(of(streams, links, 5)) == 5


@pytest.mark.parametrize("shards", [0, 17, "many"])
def test_other_numbers_of_shards_are_refused(shards: object) -> None:
    with pytest.raises(msgspec.ValidationError, match=r"postprocess\.shards"):
        of(1, "zmq", shards)


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_each_stage_is_in_one_kind_of_process_and_every_link_has_its_readers(shards: int) -> None:
    plan = ProcessPlan(shards)
    kinds = dict.fromkeys((*plan.workers, "capture"))
    assert [stage for kind in kinds for stage in plan.stages_of(kind)] != []
    assert sorted(stage.name for kind in kinds for stage in plan.stages_of(kind)) == sorted(
        stage.name for stage in STAGES
    )
    assert len(plan.readers("inferred")) == shards
    assert plan.reader("prepared") < min(plan.readers("inferred")) <= plan.finish == plan.first_capture - 1
    assert plan.worker(plan.first_capture) == "capture"
    assert len(set(plan.names)) == len(plan.names) == plan.first_capture


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.integers(1, 3)), min_size=1, max_size=8),
    st.integers(2, 3),
)
def test_the_crops_of_a_frame_go_with_it(rows: list[tuple[str, bool, int]], shards: int) -> None:
    frames = tuple(make_frame(stream, place) for place, (stream, _, _) in enumerate(rows))
    skipped = frozenset(place for place, (_, skip, _) in enumerate(rows) if skip)
    owners = [place for place, (_, skip, count) in enumerate(rows) if not skip for _ in range(count)]
    boxes = tuple(letterbox((10 + place, 10), (64, 64)) for place in owners)
    views = tuple(count for _, skip, count in rows if not skip)
    prepared = Prepared(Batch(frames, 1, skipped), np.zeros((len(owners), 4, 4, 3), np.uint8), boxes, 2, views=views)
    item = Inferred(prepared, {"scene": np.array(owners, np.float32).reshape(-1, 1)}, 3, 4)
    for _, part in split(item, shards, lambda stream: "abc".index(stream) % shards):
        wanted = [frame.seq for frame in part.prepared.batch.to_infer for _ in range(rows[frame.seq][2])]
        assert part.outputs["scene"][:, 0].tolist() == wanted
        assert part.prepared.letterboxes == tuple(letterbox((10 + seq, 10), (64, 64)) for seq in wanted)
        assert sum(part.prepared.views) == len(wanted)

"""Clips of events: what they hold, when they end, and what becomes of them where something goes wrong."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import av
import msgspec
import numpy as np
import pytest

from pipeline.frames.clock import timestamp
from pipeline.frames.jpeg import JpegEncoder
from pipeline.settings.schema import PacketSettings
from pipeline.sinks.base import SinkThread
from pipeline.sinks.clip_boxes import SeenFrame
from pipeline.sinks.store import StoreSettings, StoreSink
from pipeline.sinks.stream_clips import ClipPlace, ClipSettings, Happened, StreamClips
from pipeline.store import CLIPS, EventStore, boxes_of
from pipeline.wire.messages import EventMessage, FrameMessage
from pipeline.wire.packet_sockets import PacketHub, PacketSender
from pipeline.wire.packets import PacketMessage
from tests.pipeline.made_clips import write_clip
from tests.pipeline.made_packets import packets_of

PATIENCE_S = 30.0
RATE = 25
GROUP_S = 12 / RATE  # between key frames
BEGAN_NS = 1_795_425_247_120_000_000
PERSON = ("object", 7)
SETTINGS = ClipSettings(clips=True, before_s=2.0, after_s=1.0, max_clip_s=6.0)


@pytest.fixture(scope="module")
def packets(tmp_path_factory: pytest.TempPathFactory) -> list[PacketMessage]:
    """Of twenty seconds."""
    options = {"g": "12", "keyint_min": "12", "sc_threshold": "0", "bf": "2"}
    path = write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", 20 * RATE, (64, 48), options=options)
    return packets_of(path, BEGAN_NS)


class Clips:
    """The clips of one stream, and which event has which."""

    def __init__(
        self, folder: Path, settings: ClipSettings = SETTINGS, has_room: Callable[[], bool] = lambda: True
    ) -> None:
        self.of: dict[int, str] = {}
        self.folder = folder
        self.stream = StreamClips(ClipPlace(settings, folder, self.of.__setitem__, has_room))

    def play(self, packets: list[PacketMessage], *events: tuple[float, Happened]) -> "Clips":
        """Take packets, and events after those that were decoded by a time."""
        waiting = sorted(events, key=lambda event: event[0])
        for packet in packets:
            while waiting and waiting[0][0] <= packet.time_s:
                self.stream.happened(waiting.pop(0)[1])
            self.stream.take(packet)
        for _, event in waiting:
            self.stream.happened(event)
        return self

    def times(self, number: int) -> list[float]:
        """Stream times of the pictures in the clip of an event, by the capture time that its name tells."""
        return times_in(self.folder / self.of[number])

    @property
    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


def times_in(path: Path) -> list[float]:
    began = datetime.strptime(path.name.partition("Z_")[0], "%Y%m%dT%H%M%S.%f").replace(tzinfo=UTC)
    with av.open(str(path)) as container:
        return [began.timestamp() - BEGAN_NS / 1e9 + (frame.time or 0.0) for frame in container.decode(video=0)]


def at(
    number: int, time_s: float, track: tuple[str, int] | None = None, begins: bool = False
) -> tuple[float, Happened]:
    """An event of a stream time, which is told a moment later."""
    return time_s + 0.3, Happened(number, BEGAN_NS + round(time_s * 1e9), track, begins)


def test_a_clip_begins_at_the_key_frame_before_the_seconds_before_and_ends_with_those_after(
    tmp_path: Path, packets: list[PacketMessage]
) -> None:
    times = Clips(tmp_path).play(packets, at(1, 10.0)).times(1)
    assert 8.0 - GROUP_S <= times[0] <= 8.0 + 0.005
    shown = [time_s for time_s in times if time_s <= 11.005]
    assert shown[-1] == pytest.approx(11.0, abs=0.005) and times[-1] <= 11.0 + 4.1 / RATE
    assert all(later - earlier == pytest.approx(1 / RATE, abs=0.002) for earlier, later in pairwise(shown))


def test_what_there_is_of_the_time_before_is_taken_at_the_beginning_of_a_stream(
    tmp_path: Path, packets: list[PacketMessage]
) -> None:
    assert Clips(tmp_path).play(packets, at(1, 0.5)).times(1)[0] == pytest.approx(0.0, abs=0.005)


def test_events_close_to_each_other_share_a_clip_that_ends_after_the_last(
    tmp_path: Path, packets: list[PacketMessage]
) -> None:
    clips = Clips(tmp_path).play(packets, at(1, 8.0), at(2, 8.5), at(3, 9.2))
    assert clips.of[1] == clips.of[2] == clips.of[3] and clips.files == [clips.of[1]]
    assert clips.times(1)[-1] == pytest.approx(10.2, abs=4.1 / RATE)


def test_events_far_from_each_other_have_clips_of_their_own_each_with_its_time_before(
    tmp_path: Path, packets: list[PacketMessage]
) -> None:
    clips = Clips(tmp_path).play(packets, at(1, 6.0), at(2, 8.0))
    assert len(set(clips.of.values())) == 2
    assert clips.times(2)[0] <= 6.0 + 0.005


def test_a_clip_goes_on_while_the_track_is_there_and_its_end_is_in_it(
    tmp_path: Path, packets: list[PacketMessage]
) -> None:
    clips = Clips(tmp_path).play(packets, at(1, 8.0, PERSON, True), at(2, 10.5, PERSON))
    assert clips.of[1] == clips.of[2]
    assert clips.times(1)[-1] == pytest.approx(11.5, abs=4.1 / RATE)


def test_a_track_that_stays_for_long_has_a_clip_of_its_beginning_and_one_of_its_end(
    tmp_path: Path, packets: list[PacketMessage]
) -> None:
    clips = Clips(tmp_path).play(packets, at(1, 5.0, PERSON, True), at(2, 16.0, PERSON))
    assert len(set(clips.of.values())) == 2
    first, last = clips.times(1), clips.times(2)
    assert first[-1] - first[0] == pytest.approx(SETTINGS.max_clip_s, abs=4.1 / RATE)
    assert last[0] <= 14.0 + 0.005 and last[-1] == pytest.approx(17.0, abs=4.1 / RATE)


def test_an_event_that_is_told_before_its_packets_are_here_waits_for_them(
    tmp_path: Path, packets: list[PacketMessage]
) -> None:
    early = at(1, 10.0)[1]
    times = Clips(tmp_path).play(packets, (1.0, early)).times(1)
    assert 8.0 - GROUP_S <= times[0] <= 8.0 + 0.005


def test_a_clip_plays_while_it_is_written(tmp_path: Path, packets: list[PacketMessage]) -> None:
    clips = Clips(tmp_path).play([packet for packet in packets if packet.time_s < 10.4], at(1, 10.0))
    assert clips.times(1)[-1] == pytest.approx(10.4, abs=4.1 / RATE)


def test_what_cannot_be_decoded_after_a_loss_is_left_out_up_to_the_next_key_frame(
    tmp_path: Path, packets: list[PacketMessage]
) -> None:
    key = next(index for index, packet in enumerate(packets) if packet.time_s > 10.0 and packet.key)
    following_s = packets[key].time_s + GROUP_S
    clips = Clips(tmp_path).play([*packets[: key + 3], *packets[key + 4 :]], at(1, 10.0), at(2, 10.8))
    times = clips.times(1)
    assert clips.of[1] == clips.of[2]
    assert [at for at in times if packets[key + 3].decoded_s + 3 / RATE < at < following_s - 0.005] == []
    assert any(at == pytest.approx(following_s, abs=0.005) for at in times) and times[-1] > 11.5


@pytest.mark.parametrize("change", [{"session": 2}, {"size": (32, 24)}])
def test_a_camera_that_comes_back_otherwise_begins_a_new_clip(
    tmp_path: Path, packets: list[PacketMessage], change: dict[str, object]
) -> None:
    later = next(index for index, packet in enumerate(packets) if packet.time_s > 10.0 and packet.key)
    other = [msgspec.structs.replace(packet, **change) for packet in packets[later:]]
    clips = Clips(tmp_path).play(packets[:later] + other, at(1, 9.9), at(2, 10.8))
    assert clips.of[1] != clips.of[2]
    assert clips.times(2)[0] == pytest.approx(packets[later].time_s, abs=0.005)


def test_a_clip_that_was_deleted_meanwhile_is_not_shared(tmp_path: Path, packets: list[PacketMessage]) -> None:
    clips = Clips(tmp_path)
    half = next(index for index, packet in enumerate(packets) if packet.time_s > 10.2)
    clips.play(packets[:half], at(1, 9.8))
    clips.stream.happened(at(1, 9.8)[1])
    for path in tmp_path.iterdir():
        path.unlink()
    clips.play(packets[half:], at(2, 10.3))
    assert clips.files == [clips.of[2]]


def test_no_clip_is_begun_where_the_disk_is_full_and_one_that_is_written_ends(
    tmp_path: Path, packets: list[PacketMessage], monkeypatch: pytest.MonkeyPatch
) -> None:
    full = Clips(tmp_path, has_room=lambda: False).play(packets, at(1, 10.0))
    assert (full.of, full.files, full.stream.left_out) == ({}, [], 1)
    monkeypatch.setattr("pipeline.sinks.stream_clips.FLOOR_EVERY", 100)
    answers = iter([True])
    cut = Clips(tmp_path, has_room=lambda: next(answers, False)).play(packets, at(1, 10.0))
    assert cut.files == [cut.of[1]] and cut.times(1)[-1] < 10.5


def frame_message(packet: PacketMessage, *lefts: float) -> FrameMessage:
    """The message of the frame that a packet gives, with an object at each of these places."""
    objects = [{"track": 7, "label": "person", "score": 0.9, "box": [left, 1.0, left + 9.0, 20.0]} for left in lefts]
    face = {"track": 3, "object": 7, "score": 0.8, "box": [1.0, 1.0, 3.0, 3.0], "landmarks": []}
    faces = [face | {"identity": {"name": "Ada", "score": 0.7}}] if lefts else []
    told = {"stream": "door", "seq": packet.number, "captured_at": timestamp(packet.captured_ns), "size": [64, 48]}
    times = {"queue": 1.0, "infer": 1.0, "post": 1.0, "total": 3.0}
    seen = {"objects": objects, "faces": faces, "scene": [], "timings_ms": times, "dropped": {}}
    return msgspec.convert({"type": "frame", **told, **seen}, FrameMessage)


@pytest.mark.parametrize(("late", "off_ms"), [(0, 0), (8, 0), (3, 7)])
def test_the_boxes_of_each_picture_lie_beside_the_clip_at_its_time_and_without_names(
    tmp_path: Path, packets: list[PacketMessage], late: int, off_ms: int
) -> None:
    """Also where messages come later than packets, after the clip has ended, and of another stream of the camera."""
    clips = Clips(tmp_path)
    shown = sorted(packets, key=lambda packet: packet.captured_ns)
    for row, packet in enumerate([*packets, *packets[:late]]):
        if row == round(10.3 * RATE):
            clips.stream.happened(at(1, 10.0)[1])
        if row < len(packets):
            clips.stream.take(packet)
        if row >= late:
            seen = shown[row - late]
            lefts = (float(seen.number % 40),) if not 9.0 < seen.time_s < 9.5 else ()
            captured_ns = seen.captured_ns + off_ms * 1_000_000
            seen = msgspec.structs.replace(seen, captured_ns=captured_ns)
            clips.stream.saw(SeenFrame.of(frame_message(seen, *lefts)))
    clips.stream.close()
    clip = tmp_path / clips.of[1]
    lines = [msgspec.json.decode(line) for line in boxes_of(clip).read_bytes().splitlines()]
    with av.open(str(clip)) as container:
        times = [frame.time or 0.0 for frame in container.decode(video=0)]
    empty = [line["at_s"] for line in lines if not line["objects"]]
    assert len(empty) == 1, "that nothing is seen any more is told once"
    pause_s = sum(9.0 < packet.time_s < 9.5 for packet in packets) / RATE
    expected = [time_s for time_s in times if not empty[0] + 0.01 < time_s < empty[0] + pause_s - 0.01]
    told = [line["at_s"] for line in lines if line["at_s"] > times[0] - 0.01]
    assert all(line["at_s"] >= 0.0 for line in lines)
    last = slice(None, -1 if off_ms else None)  # what was captured after the last picture belongs to none
    assert told == pytest.approx([time_s + off_ms / 1000 for time_s in expected[last]], abs=0.002)
    begin = shown[0].captured_ns + round((lines[0]["at_s"] + clips.times(1)[0] - times[0]) * 1e9)
    first = min(shown, key=lambda packet: abs(packet.captured_ns - begin))
    assert lines[0]["objects"][0]["box"][0] == first.number % 40
    assert b"Ada" not in boxes_of(clip).read_bytes() and boxes_of(clip).stat().st_mode & 0o777 == 0o600


def test_an_event_of_a_stream_without_packets_has_no_clip(tmp_path: Path) -> None:
    clips = Clips(tmp_path)
    clips.stream.happened(at(1, 10.0)[1])
    clips.stream.close()
    assert (clips.of, clips.stream.left_out) == ({}, 1)


def test_pictures_without_packets_are_encoded_once_and_play(tmp_path: Path) -> None:
    encoder = JpegEncoder(80)
    made = []
    for number in range(40):
        planes = tuple(np.full(shape, 5 * number, np.uint8) for shape in ((49, 65), (25, 33), (25, 33)))
        made.append(
            PacketMessage(
                stream="door",
                session=1,
                number=number,
                codec="mjpeg",
                extradata=b"",
                size=(65, 49),
                time_base=(1, 90_000),
                pts=18_000 * number,
                dts=18_000 * number,
                key=True,
                captured_ns=BEGAN_NS + number * 200_000_000,
                time_s=number / 5,
                data=encoder.encode(planes),
            )
        )
    clips = Clips(tmp_path).play(made, at(1, 4.0))
    clips.stream.close()
    times = clips.times(1)
    assert times[0] == pytest.approx(2.0, abs=0.005) and times[-1] == pytest.approx(5.0, abs=0.005)
    assert len(times) == 16
    with av.open(str(tmp_path / clips.of[1])) as container:
        levels = [frame.to_ndarray(format="gray").mean() for frame in container.decode(video=0)]
        assert container.streams.video[0].codec_context.name == "h264"
    assert levels == sorted(levels) and levels[0] == pytest.approx(50, abs=12)


@pytest.mark.integration
def test_the_sink_gives_the_stored_events_their_clip(tmp_path: Path, packets: list[PacketMessage]) -> None:
    values = {"directory": str(tmp_path / "events"), "min_free_gb": 0.0, "clips": True, "before_s": 2.0, "after_s": 1.0}
    with PacketHub(PacketSettings()) as hub:
        sink = StoreSink(msgspec.convert(values, StoreSettings))
        sink.read_packets(hub.address)
        thread, sender = SinkThread("store", sink, 100), PacketSender(hub.inner, "door")
        end = time.monotonic() + PATIENCE_S
        while not sender.wanted and time.monotonic() < end:
            sender.look()
            time.sleep(0.01)
        for packet in packets:
            if packet.number == 8 * RATE:
                moment = datetime.fromtimestamp(BEGAN_NS / 1e9 + 7.5, UTC).isoformat(timespec="milliseconds")
                thread.send(event_message("new", moment))
                thread.send(event_message("changed", moment))
            sender.send(packet)
            thread.send(frame_message(packet, 2.0))
            time.sleep(0.001)
        thread.finish()
        assert thread.join(time.monotonic() + PATIENCE_S)
        sender.close()
    with EventStore(tmp_path / "events") as store:
        changed, new = store.page().events
        path = store.clip_file(new)
        assert path is not None and changed.clip == new.clip
        times = times_in(path)
        assert times[0] <= 5.5 + 0.005 and times[-1] >= 8.4
        assert path.parent == tmp_path / "events" / CLIPS
        assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
        assert boxes_of(path).read_bytes().count(b"\n") == pytest.approx(len(times), abs=2)
        assert store.delete([new.id]) == 1 and path.exists()
        assert store.delete([changed.id]) == 1 and list(path.parent.iterdir()) == []


def event_message(event: str, moment: str) -> EventMessage:
    values = {"type": "event", "stream": "door", "seq": 3, "captured_at": moment, "event": event, "kind": "object"}
    return msgspec.convert(values | {"track": 7, "label": "person"}, EventMessage)

"""Packets as capture gives them, of files."""

from pathlib import Path

import av

from pipeline.sources.packets import codec_of
from pipeline.wire.packets import PacketMessage


def packets_of(path: Path, captured_ns: int = 0, stream: str = "door") -> list[PacketMessage]:
    """The packets of a file, in the order in which they are decoded; captured at the pace of their stream time."""
    with av.open(str(path)) as container:
        (video,) = container.streams.video
        context = video.codec_context
        packets = [packet for packet in container.demux(video) if packet.size]
        codec, extradata, size = codec_of(context), context.extradata or b"", (context.width, context.height)
    assert codec is not None
    begin = min(packet.pts for packet in packets if packet.pts is not None)
    made = []
    for number, packet in enumerate(packets):
        assert packet.pts is not None and packet.time_base is not None
        time_s = float((packet.pts - begin) * packet.time_base)
        made.append(
            PacketMessage(
                stream=stream,
                session=1,
                number=number,
                codec=codec,
                extradata=extradata,
                size=size,
                time_base=(packet.time_base.numerator, packet.time_base.denominator),
                pts=packet.pts,
                dts=packet.dts,
                key=packet.is_keyframe,
                captured_ns=captured_ns + round(time_s * 1e9),
                time_s=time_s,
                data=bytes(packet),
            )
        )
    return made

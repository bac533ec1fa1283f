"""Packets -> fragmented MP4, as Media Source Extensions and players of files take it (ISO/IEC 14496-12).

Written by hand: what a muxer of FFmpeg needs besides packets is an open input, and this runs where there is none.
"""

import struct
from collections.abc import Callable
from typing import Final

from engines.errors import MessageError
from pipeline.wire.packets import PacketMessage
from pipeline.wire.parameter_sets import h264_record, hevc_record, is_annex_b, nal_units, with_lengths

TIMESCALE: Final = 90_000  # of all times in the file
DEFAULT_STEP: Final = TIMESCALE // 25  # of a last picture that none follows and none went before
TRACK: Final = 1
KEY, DELTA = 0x02000000, 0x01010000  # sample flags: depends on no other; or it does, and is no place to begin at
QUARTERS: Final = {0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}  # clockwise


def box(kind: bytes, *parts: bytes) -> bytes:
    """Return a box."""
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full_box(kind: bytes, version: int, flags: int, *parts: bytes) -> bytes:
    """Return a box with a version and flags."""
    return box(kind, struct.pack(">I", version << 24 | flags), *parts)


class Fragmenter:
    """Makes fragmented MP4 of the packets of one stream; made of the first of them.

    A picture is shown at its stream time, and lasts until the next one: a fragment is given once the packet behind it
    is there. The first is decoded at media time 0.

    Args:
        first: packet, of H.264, HEVC or AV1; tells the format of those that follow (:attr:`PacketMessage.format`).

    Raises:
        MessageError: it is of another codec, or its parameter sets are damaged.
    """

    def __init__(self, first: PacketMessage) -> None:
        self.format = first.format
        entry, record, words = _entry(first)
        self.codec = words  # as RFC 6381 has it: "avc1.640028"
        self.init = _init(first, entry, record)  # the segment before all fragments
        self._convert = _converter(first)
        late = _late(first)
        self._begin = round(first.time_s * TIMESCALE) - late  # decoding time of media time 0, in TIMESCALE
        self.begin_s = self._begin / TIMESCALE  # stream time of media time 0
        # When media time 0 was captured, Unix time: base_ns + 1e9 * media time is when the first picture was, and every
        # other one of a source whose stream time goes on as the clock does.
        self.base_ns = first.captured_ns - round(late * 1e9 / TIMESCALE)
        self._begun = False  # whether a key frame came
        self._last = self._begin - 1  # decoding time of the packet before
        self._step = DEFAULT_STEP
        self._number = 0  # of fragments
        # With its decoding time, and how much later it is shown.
        self._held: tuple[PacketMessage, int, int] | None = None

    @property
    def mime(self) -> str:
        """What Media Source Extensions ask for."""
        return f'video/mp4; codecs="{self.codec}"'

    def fragment(self, packet: PacketMessage) -> bytes:
        """Return the fragment of the packet before this one; nothing before the second.

        A packet before the first key frame is left out.
        """
        self._begun = self._begun or packet.key
        if not self._begun:
            return b""
        shown, late = round(packet.time_s * TIMESCALE), _late(packet)
        decoded = max(shown - late, self._last + 1)
        done = self._done(decoded)
        self._held, self._last = (packet, decoded, shown - decoded), decoded
        return done

    def rest(self) -> bytes:
        """Return the fragment of the last packet; none follows."""
        return self._done(self._last + self._step)

    def _done(self, next_decoded: int) -> bytes:
        if self._held is None:
            return b""
        packet, decoded, late = self._held
        self._held = None
        self._step = next_decoded - decoded
        data = self._convert(packet.data)
        self._number += 1
        sample = struct.pack(">IIIi", self._step, len(data), KEY if packet.key else DELTA, late)

        def moof(offset: int) -> bytes:
            return box(
                b"moof",
                full_box(b"mfhd", 0, 0, struct.pack(">I", self._number)),
                box(
                    b"traf",
                    full_box(b"tfhd", 0, 0x020000, struct.pack(">I", TRACK)),  # offsets count from the moof
                    full_box(b"tfdt", 1, 0, struct.pack(">Q", decoded - self._begin)),
                    full_box(b"trun", 1, 0x000F01, struct.pack(">Ii", 1, offset), sample),
                ),
            )

        return moof(len(moof(0)) + 8) + box(b"mdat", data)


def _late(packet: PacketMessage) -> int:
    """How much later than it is decoded a picture is shown, in TIMESCALE."""
    if packet.pts is None or packet.dts is None:
        return 0
    numerator, denominator = packet.time_base
    return max(0, round((packet.pts - packet.dts) * TIMESCALE * numerator / denominator))


def _converter(packet: PacketMessage) -> Callable[[bytes], bytes]:
    if packet.codec != "av1" and is_annex_b(packet.data):
        return lambda data: with_lengths(nal_units(data))
    return lambda data: data


def _entry(packet: PacketMessage) -> tuple[bytes, bytes, str]:
    """The kind of the sample entry, its configuration box and the codec in words."""
    match packet.codec:
        case "h264":
            record = h264_record(packet.extradata)
            return b"avc1", box(b"avcC", record), "avc1." + record[1:4].hex()
        case "hevc":
            record = hevc_record(packet.extradata)
            return b"hvc1", box(b"hvcC", record), _hevc_words(record)
        case "av1":
            record = packet.extradata
            if len(record) < 4 or record[0] != 0x81:
                raise MessageError("AV1 without a configuration record cannot be put into MP4")
            depth = (8, 10, 12)[(record[2] >> 6 & 1) + (record[2] >> 5 & 1)]
            tier = "H" if record[2] & 0x80 else "M"
            return b"av01", box(b"av1C", record), f"av01.{record[1] >> 5}.{record[1] & 31:02d}{tier}.{depth:02d}"
        case _:
            raise MessageError(f"codec is {packet.codec!r}, but must be 'h264', 'hevc' or 'av1' to be put into MP4")


def _hevc_words(record: bytes) -> str:
    """As ISO/IEC 14496-15, annex E, has it."""
    space = ("", "A", "B", "C")[record[1] >> 6]
    compatible = int(f"{int.from_bytes(record[2:6], 'big'):032b}"[::-1], 2)
    tier = "H" if record[1] & 0x20 else "L"
    constraints = record[6:12].rstrip(b"\x00")
    return ".".join(
        (
            "hvc1",
            f"{space}{record[1] & 31}",
            f"{compatible:X}",
            f"{tier}{record[12]}",
            *(f"{byte:X}" for byte in constraints),
        )
    )


def _init(packet: PacketMessage, kind: bytes, record: bytes) -> bytes:
    return box(b"ftyp", b"iso6", struct.pack(">I", 1), b"iso6mp41" + kind) + box(
        b"moov",
        full_box(
            b"mvhd",
            0,
            0,
            struct.pack(">4I", 0, 0, TIMESCALE, 0),
            struct.pack(">Ih10x", 1 << 16, 1 << 8),
            _turned(0, 0, 0),
            bytes(24),
            struct.pack(">I", TRACK + 1),
        ),
        _track(packet, kind, record),
        box(b"mvex", full_box(b"trex", 0, 0, struct.pack(">5I", TRACK, 1, 0, 0, 0))),
    )


def _track(packet: PacketMessage, kind: bytes, record: bytes) -> bytes:
    width, height = packet.size
    across, down = packet.aspect
    shown = round(width * across / down)
    header = struct.pack(">5I8x4h", 0, 0, TRACK, 0, 0, 0, 0, 0, 0) + _turned(packet.rotation, shown, height)
    header += struct.pack(">2I", shown << 16, height << 16)
    handler = struct.pack(">I4s12x", 0, b"vide") + b"Video\0"
    media = box(
        b"minf",
        full_box(b"vmhd", 0, 1, bytes(8)),
        box(b"dinf", full_box(b"dref", 0, 0, struct.pack(">I", 1), full_box(b"url ", 0, 1))),
        box(
            b"stbl",
            full_box(b"stsd", 0, 0, struct.pack(">I", 1), _sample_entry(packet, kind, record)),
            full_box(b"stts", 0, 0, bytes(4)),
            full_box(b"stsc", 0, 0, bytes(4)),
            full_box(b"stsz", 0, 0, bytes(8)),
            full_box(b"stco", 0, 0, bytes(4)),
        ),
    )
    language = struct.pack(">HH", 0x55C4, 0)  # "und"
    return box(
        b"trak",
        full_box(b"tkhd", 0, 3, header),
        box(
            b"mdia",
            full_box(b"mdhd", 0, 0, struct.pack(">4I", 0, 0, TIMESCALE, 0), language),
            full_box(b"hdlr", 0, 0, handler),
            media,
        ),
    )


def _sample_entry(packet: PacketMessage, kind: bytes, record: bytes) -> bytes:
    width, height = packet.size
    fields = struct.pack(">6xH16xHHIIIH32xHh", 1, width, height, 72 << 16, 72 << 16, 0, 1, 0x18, -1)
    square = packet.aspect[0] == packet.aspect[1]
    pixels = b"" if square else box(b"pasp", struct.pack(">II", *packet.aspect))
    return box(kind, fields, record, pixels)


def _turned(degrees: int, width: int, height: int) -> bytes:
    """The matrix that turns a picture clockwise, and moves it back to where it begins at 0, 0."""
    a, b, c, d = QUARTERS[degrees]
    x = (width if a < 0 else 0) + (height if c < 0 else 0)
    y = (width if b < 0 else 0) + (height if d < 0 else 0)
    return struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, x << 16, y << 16, 1 << 30)

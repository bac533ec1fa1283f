"""Parameter sets of H.264 and HEVC as MP4 has them: what MPEG-TS and RTSP send between start codes (Annex B) becomes
NAL units behind their lengths, and a configuration record of its own (ISO/IEC 14496-15).
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from engines.errors import MessageError

START: Final = re.compile(rb"\x00\x00\x01")
LENGTH_BYTES: Final = 4  # before each NAL unit
H264_SETS: Final = (7, 8)  # SPS, PPS: nal_unit_type of ITU-T H.264, table 7-1
HEVC_SETS: Final = (32, 33, 34)  # VPS, SPS, PPS: of ITU-T H.265, table 7-1
HIGH_PROFILES: Final = (100, 110, 122, 244, 44, 83, 86, 118, 128)  # of H.264, whose SPS tell chroma and depth


def is_annex_b(data: bytes) -> bool:
    """Whether NAL units stand between start codes."""
    return data.startswith((b"\x00\x00\x01", b"\x00\x00\x00\x01"))


def nal_units(data: bytes) -> Iterator[bytes]:
    """Yield the NAL units between start codes (Annex B); zeros before a start code are none of theirs."""
    starts = [match.start() for match in START.finditer(data)]
    for start, end in zip(starts, [*starts[1:], len(data)], strict=True):
        if unit := data[start + 3 : end].rstrip(b"\x00"):
            yield unit


def with_lengths(units: Iterable[bytes]) -> bytes:
    """Return NAL units, each behind its length in four bytes."""
    return b"".join(len(unit).to_bytes(LENGTH_BYTES, "big") + unit for unit in units)


def parameter_sets(codec: str, data: bytes) -> bytes:
    """Return the parameter sets in a packet (Annex B), between start codes; nothing unless it has all kinds of them."""
    kind, wanted = (_h264_type, H264_SETS) if codec == "h264" else (_hevc_type, HEVC_SETS)
    found = [unit for unit in nal_units(data) if kind(unit) in wanted]
    if not {*wanted} <= {*map(kind, found)}:
        return b""
    return b"".join(b"\x00\x00\x00\x01" + unit for unit in found)


def h264_record(extradata: bytes) -> bytes:
    """Return the AVCDecoderConfigurationRecord of parameter sets, or as it is where they are one already.

    Raises:
        MessageError: a parameter set is missing or damaged.
    """
    if not is_annex_b(extradata):
        return _checked(extradata, 7)
    sps, pps = _by_type(extradata, _h264_type, H264_SETS)
    profile, compatible, level = sps[0][1:4]
    record = bytes([1, profile, compatible, level, 0xFC | LENGTH_BYTES - 1, 0xE0 | len(sps)]) + _sized(sps)
    record += bytes([len(pps)]) + _sized(pps)
    if profile not in HIGH_PROFILES:
        return record
    bits = Bits(sps[0][4:])
    bits.golomb()  # seq_parameter_set_id
    chroma = bits.golomb()
    if chroma == 3:
        bits.take(1)  # separate_colour_plane_flag
    luma_depth, chroma_depth = bits.golomb(), bits.golomb()
    return record + bytes([0xFC | chroma & 3, 0xF8 | luma_depth & 7, 0xF8 | chroma_depth & 7, 0])


def hevc_record(extradata: bytes) -> bytes:
    """Return the HEVCDecoderConfigurationRecord of parameter sets, or as it is where they are one already.

    Raises:
        MessageError: a parameter set is missing or damaged.
    """
    if not is_annex_b(extradata):
        return _checked(extradata, 23)
    sets = _by_type(extradata, _hevc_type, HEVC_SETS)
    bits = Bits(sets[1][0][2:])
    bits.take(4)  # sps_video_parameter_set_id
    layers, nested = bits.take(3) + 1, bits.take(1)
    profile = bits.take(96).to_bytes(12, "big")  # general part of profile_tier_level(), level included
    _skip_layers(bits, layers - 1)
    bits.golomb()  # sps_seq_parameter_set_id
    chroma = bits.golomb()
    if chroma == 3:
        bits.take(1)
    bits.golomb(), bits.golomb()  # width, height
    if bits.take(1):  # conformance window
        for _ in range(4):
            bits.golomb()
    luma_depth, chroma_depth = bits.golomb(), bits.golomb()
    record = b"\x01" + profile + b"\xf0\x00\xfc"
    record += bytes([0xFC | chroma & 3, 0xF8 | luma_depth & 7, 0xF8 | chroma_depth & 7, 0, 0])
    record += bytes([layers << 3 | nested << 2 | LENGTH_BYTES - 1, len(sets)])
    for kind, units in zip(HEVC_SETS, sets, strict=True):
        record += bytes([0x80 | kind]) + len(units).to_bytes(2, "big") + _sized(units)
    return record


def _skip_layers(bits: "Bits", count: int) -> None:
    """Pass over what profile_tier_level() says of sub-layers: H.265, 7.3.3."""
    present = [(bits.take(1), bits.take(1)) for _ in range(count)]
    if count:
        bits.take(2 * (8 - count))
    for profile, level in present:
        bits.take(88 * profile + 8 * level)


class Bits:
    """Reads the bits of a NAL unit, without the bytes that keep start codes out of it (emulation prevention)."""

    def __init__(self, data: bytes) -> None:
        plain = data.replace(b"\x00\x00\x03", b"\x00\x00")
        self._value, self._left = int.from_bytes(plain, "big"), 8 * len(plain)

    def take(self, count: int) -> int:
        """Return the next bits as a number; MessageError where there are no more."""
        if count > self._left:
            raise MessageError("a parameter set ends too early")
        self._left -= count
        return self._value >> self._left & (1 << count) - 1

    def golomb(self) -> int:
        """Return the next Exp-Golomb number: ue(v) of H.264, 9.1."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros | self.take(zeros)) - 1


def _h264_type(unit: bytes) -> int:
    return unit[0] & 0x1F


def _hevc_type(unit: bytes) -> int:
    return unit[0] >> 1 & 0x3F


def _by_type(data: bytes, kind: Callable[[bytes], int], wanted: tuple[int, ...]) -> list[list[bytes]]:
    units = list(dict.fromkeys(nal_units(data)))
    found = [[unit for unit in units if kind(unit) == each] for each in wanted]
    if not all(found) or any(len(unit) < 4 for units in found[:-1] for unit in units):
        raise MessageError("a parameter set is missing: without it nothing can be decoded")
    return found


def _sized(units: Iterable[bytes]) -> bytes:
    return b"".join(len(unit).to_bytes(2, "big") + unit for unit in units)


def _checked(record: bytes, least: int) -> bytes:
    if len(record) < least or record[0] != 1:
        raise MessageError(f"a configuration record has {len(record)} bytes, but must have {least} and be of version 1")
    return record

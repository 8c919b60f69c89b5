"""The tape's record: 80 bytes that say what happened, when, and in which stream.

Layout (little-endian, no padding): crc u32 | stream u32 | event_ns i64 | received_ns i64 | id u32 | epoch u16 | kind u8 |
flags u8 | v0..v5 six float64. A record's seq is its position on the tape and is not stored; the crc is seeded with it, so
bytes of another position can never pass for this one.
"""

import struct
import zlib
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

PRICE_MAX = (
    1e15  # of what may stand on the tape: accounts count exactly, and what lies beyond would have too many digits
)


class Kind(IntEnum):
    """What a record is. The numbers are on disk: never reuse one."""

    TRADE = 1  # v0 price, v1 size, v2 side (+1 buy, -1 sell, 0 unknown)
    QUOTE = 2  # v0 bid, v1 ask, v2 bid_size, v3 ask_size (NaN: not published)
    BAR = 3  # v0 open, v1 high, v2 low, v3 close, v4 volume; event_ns is the close of the interval
    PREDICTION = 4  # v0 score in [-1, 1], v1 confidence in [0, 1]
    FUNDING = 5  # v0 rate, fraction per interval
    NEWS = 6  # v0 sentiment in [-1, 1], v1 relevance in [0, 1]
    CLOCK = 7  # event_ns is a whole interval
    PRIVATE = 8  # v0 offset of an entry in one client's fill log, v1 and v2 its digest, v3 its number
    GAP = 9  # v0 seconds in which records may be missing, v1 cause (see GapCause); event_ns is the end of the gap
    CLOCK_STEP = 10  # v0 seconds by which the host's wall clock was set forward (below 0: back)


class GapCause(IntEnum):
    """Why records of a symbol may be missing. The numbers are on disk: never reuse one."""

    FEED_DOWN = 1  # no feed ran, and its source cannot be rewound
    DISK_FULL = 2  # the feed took nothing, since it could not have kept it
    SOURCE_LOST = 3  # the source lost its connection, or dropped what the feed did not take
    NOT_RECORDED = 4  # the source has no record of that time itself


CODEC = struct.Struct("<IIqqIHBB6d")
SIZE = CODEC.size
assert SIZE == 80

DTYPE = np.dtype(
    [
        ("crc", "<u4"),
        ("stream", "<u4"),
        ("event_ns", "<i8"),
        ("received_ns", "<i8"),
        ("id", "<u4"),
        ("epoch", "<u2"),
        ("kind", "u1"),
        ("flags", "u1"),
        ("v", "<f8", 6),
    ]
)
assert DTYPE.itemsize == SIZE
WORDS: np.dtype[Any] = np.dtype(("<u4", SIZE // 4))  # the same record, as words: crc, stream, ...


class Record(NamedTuple):
    """One unpacked record, in the order of the bytes."""

    crc: int
    stream: int
    event_ns: int
    received_ns: int
    id: int
    epoch: int
    kind: int
    flags: int
    v0: float
    v1: float
    v2: float
    v3: float
    v4: float
    v5: float


def record_crc(seq: int, raw: bytes | memoryview) -> int:
    """crc32 of the bytes after the crc field, seeded with the record's seq."""
    return zlib.crc32(raw[4:], seq & 0xFFFFFFFF)


def crcs_hold(words: "npt.NDArray[np.uint32]", seqs: "npt.NDArray[np.int64]") -> bool:
    """Whether the records of these seqs, an array of WORDS with at least one, match their crcs.

    All crcs in one pass, which costs a fifth of a call for each. A crc counts its seed as if it were added (xor) to the first
    four bytes. So a record's crc comes out behind the crc of the record before it, too, if what the two seeds differ by is added
    there; and the last one comes out only if all did: a wrong one makes all behind it wrong, unless a second hits upon the
    very bits that mend it, as likely as damage that no crc finds.
    """
    crcs, rest = words[:, 0], words[:, 1:].copy()
    rest[:, 0] ^= seqs.astype(np.uint32)
    rest[1:, 0] ^= crcs[:-1]
    return zlib.crc32(rest.data) == int(crcs[-1])

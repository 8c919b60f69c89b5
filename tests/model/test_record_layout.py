"""The bytes of a record: what is on disk must mean the same in a year."""

import math

import numpy as np

from strategy_runner.model.record import CODEC, DTYPE, SIZE, Kind, Record, record_crc


def packed(seq: int, *values: float) -> bytes:
    values += (math.nan,) * (6 - len(values))
    raw = CODEC.pack(0, 3, 1_700_000_000_000_000_001, 1_700_000_000_000_000_999, 7, 2, Kind.TRADE, 0, *values)
    return record_crc(seq, raw).to_bytes(4, "little") + raw[4:]


def test_struct_and_numpy_read_the_same_record() -> None:
    raw = packed(5, 101.25, 0.5, -1.0)
    record = Record(*CODEC.unpack(raw))
    array = np.frombuffer(raw, dtype=DTYPE)[0]
    for name in ("crc", "stream", "event_ns", "received_ns", "id", "epoch", "kind", "flags"):
        assert getattr(record, name) == array[name]
    assert [record.v0, record.v1, record.v2] == array["v"][:3].tolist() == [101.25, 0.5, -1.0]
    assert math.isnan(record.v3) and np.isnan(array["v"][3:]).all()


def test_the_bytes_of_a_record_are_these() -> None:
    raw = packed(0, 1.0)
    assert (SIZE, len(raw)) == (80, 80)
    assert raw[4:8] == (3).to_bytes(4, "little")
    assert raw[8:16] == (1_700_000_000_000_000_001).to_bytes(8, "little")
    assert raw[28:32] == bytes([2, 0, 1, 0])  # epoch, kind, flags
    assert raw[32:40] == bytes.fromhex("000000000000f03f")


def test_the_numbers_of_the_kinds_never_change() -> None:
    assert {kind.name: int(kind) for kind in Kind} == {
        "TRADE": 1,
        "QUOTE": 2,
        "BAR": 3,
        "PREDICTION": 4,
        "FUNDING": 5,
        "NEWS": 6,
        "CLOCK": 7,
        "PRIVATE": 8,
        "GAP": 9,
        "CLOCK_STEP": 10,
    }


def test_a_record_passes_its_check_at_its_own_seq_only() -> None:
    raw = packed(41, 9.5)
    stored = int.from_bytes(raw[:4], "little")
    assert record_crc(41, raw) == stored
    assert all(record_crc(seq, raw) != stored for seq in (0, 40, 42, 41 + 65536))


def test_a_flipped_bit_anywhere_fails_the_check() -> None:
    raw = packed(41, 9.5, 1.0)
    for bit in range(SIZE * 8):
        damaged = bytearray(raw)
        damaged[bit // 8] ^= 1 << bit % 8
        assert record_crc(41, bytes(damaged)) != int.from_bytes(damaged[:4], "little")

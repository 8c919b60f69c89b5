"""tape: what it costs to append a record, to read it by itself and among many, beside struct alone on the same 80 bytes."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.common import Figure, Sample, Settings, figure
from strategy_runner.model.record import CODEC, SIZE
from strategy_runner.model.stream import trades
from strategy_runner.tape.reader import TapeReader
from strategy_runner.tape.writer import TapeWriter
from strategy_runner.worker.run import RUN_RECORDS_MAX, read_block
from strategy_runner.worker.subscription import Subscription

NAME = "tape"
_PUBLISHED_AT_A_TIME = 1_000
_SEGMENT_RECORDS = 262_144


def run(settings: Settings) -> Iterator[Figure]:
    measured = [_measure(settings.appends) for _ in range(settings.runs)]
    append, read, read_run, pack, unpack = (Sample.of(times) for times in zip(*measured, strict=True))
    yield figure(settings, NAME, "append", "us/record", append, pack, "struct.pack_into of the same 80 bytes")
    yield figure(settings, NAME, "read", "us/record", read, unpack, "struct.unpack_from of the same 80 bytes")
    what = f"read by {RUN_RECORDS_MAX}, events made"
    yield figure(settings, NAME, what, "us/record", read_run, unpack, "struct.unpack_from of the same 80 bytes")


def _measure(records: int) -> tuple[float, float, float, float, float]:
    with TemporaryDirectory(prefix="sr") as name:
        folder = Path(name)
        writer = TapeWriter(folder, segment_records=_SEGMENT_RECORDS)
        append_us = _us_each(records, lambda: _append(writer, records))
        reader = TapeReader(folder)
        read_us = _us_each(records, lambda: _read(reader, records))
        read_run_us = _us_each(records, lambda: _read_runs(reader, records))
        writer.close()
    memory = bytearray(SIZE * _PUBLISHED_AT_A_TIME)
    pack_us = _us_each(records, lambda: _pack(memory, records))
    return append_us, read_us, read_run_us, pack_us, _us_each(records, lambda: _unpack(memory, records))


def _append(writer: TapeWriter, records: int) -> None:
    stream, append, nan = writer.stream_id(trades("X")), writer.append, float("nan")
    writer.received_ns = 1
    for _ in range(records // _PUBLISHED_AT_A_TIME):
        for event_ns in range(_PUBLISHED_AT_A_TIME):
            append(stream, event_ns, 100.25, 2.0, 1.0, nan, nan)
        writer.publish()


def _read(reader: TapeReader, records: int) -> None:
    fields = reader.fields
    for seq in range(records):
        fields(seq)


def _read_runs(reader: TapeReader, records: int) -> None:
    """As a worker reads that is behind."""
    subscription, at = Subscription(trades("X"), print), 0
    stream = reader.find(subscription.stream)
    assert stream is not None
    while at < records:
        block = read_block(
            reader, stream, subscription, reader.entries_between(stream, at, min(records, at + RUN_RECORDS_MAX))
        )
        assert block is not None
        for _ in block.events:
            at += 1


def _pack(memory: bytearray, records: int) -> None:
    pack_into, nan = CODEC.pack_into, float("nan")
    for _ in range(records // _PUBLISHED_AT_A_TIME):
        for at in range(0, len(memory), SIZE):
            pack_into(memory, at, 0, 1, at, 1, 0, 1, 1, 0, 100.25, 2.0, 1.0, nan, nan, 0.0)


def _unpack(memory: bytearray, records: int) -> None:
    unpack_from = CODEC.unpack_from
    for _ in range(records // _PUBLISHED_AT_A_TIME):
        for at in range(0, len(memory), SIZE):
            unpack_from(memory, at)


def _us_each(records: int, call: Callable[[], None]) -> float:
    begun = time.perf_counter()
    call()
    return (time.perf_counter() - begun) / records * 1e6

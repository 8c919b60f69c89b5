"""Exporting a tape: every record of it, and a history folder that gives the same market again."""

import math
from pathlib import Path

import duckdb
import pytest

from strategy_runner.config.spec import MockSpec, ReplaySpec
from strategy_runner.errors import CorruptRecordError
from strategy_runner.feed.derive import Derivation
from strategy_runner.feed.sources.mock import MockSource
from strategy_runner.history.catalog import find_series, series_of
from strategy_runner.history.export import export_history, export_records
from strategy_runner.history.reader import read_series
from strategy_runner.history.replay import ReplaySource
from strategy_runner.model.record import PRICE_MAX, SIZE, Kind
from strategy_runner.model.stream import Stream
from strategy_runner.tape import files
from strategy_runner.tape.reader import TapeReader
from strategy_runner.tape.writer import TapeWriter

FOREVER = 1 << 62
SEGMENT = 1_000
NAMES = ("A/trade", "A/quote", "A/bar.1m", "A/bar.5m", "A/clock.1s", "A/prediction.m1.1m")
MOCK = MockSpec(
    seed=3, speed=0.0, start_ns=1_700_000_000_000_000_000, records=0, trades_per_s=2.0, quotes_per_s=1.0, prices=()
)


@pytest.fixture
def reader(tmp_path: Path) -> TapeReader:
    """A tape of a mock market, with its records in several segments."""
    writer = TapeWriter(tmp_path / "tape", segment_records=SEGMENT)
    writer.received_ns = 9
    handles = {Stream.parse(name): writer.stream_id(Stream.parse(name)) for name in NAMES}
    writer.stream_id(Stream.parse("B/trade"))
    source = MockSource(MOCK, now_ns=0)
    source.add(("A",))
    derivation = Derivation(source.base("A"), handles, emit=writer.append, seed=1)
    for _, kind, event_ns, v0, v1, v2, v3, _ in source.take(3_000, FOREVER):
        if kind == Kind.TRADE:
            derivation.trade(event_ns, v0, v1, v2)
        else:
            derivation.quote(event_ns, v0, v1, v2, v3)
    writer.publish()
    writer.make_durable()
    writer.close()
    return TapeReader(tmp_path / "tape")


def on_tape(reader: TapeReader, name: str) -> list[tuple[float, ...]]:
    """(event_ns, values ...) of a stream, in the width of its kind."""
    stream = Stream.parse(name)
    stream_id = reader.find(stream)
    assert stream_id is not None
    width = {Kind.TRADE: 3, Kind.QUOTE: 4, Kind.BAR: 5}[stream.kind]
    records = [reader.record(seq) for seq in reader.seqs(stream_id, 0, reader.entries(stream_id))]
    return [(record.event_ns, *record[8 : 8 + width]) for record in records]


def test_every_record_of_a_tape_is_exported_with_its_seq(reader: TapeReader, tmp_path: Path) -> None:
    count = reader.head.count
    written = export_records(reader, tmp_path / "out", 0, count)
    assert [path.name for path in written] == [f"{seq:015d}.parquet" for seq in range(0, count, SEGMENT)]
    with duckdb.connect() as engine:
        rows = engine.execute(
            "SELECT seq, stream, kind, event_ns, received_ns, epoch, v0, v1, v2, v3, v4, v5 "
            f"FROM '{tmp_path / 'out'}/tape/*.parquet' ORDER BY seq"
        ).fetchall()
    assert [row[0] for row in rows] == list(range(count))
    for seq, stream, *values in rows:
        record = reader.record(seq)
        expected = (record.kind, record.event_ns, record.received_ns, record.epoch, *record[8:])
        found = tuple(math.nan if value is None else value for value in values)  # a missing number is NULL, never 0
        assert (stream, repr(found)) == (reader.streams[record.stream].name, repr(expected))


def test_a_part_of_a_tape_is_exported_alone(reader: TapeReader, tmp_path: Path) -> None:
    written = export_records(reader, tmp_path / "out", SEGMENT - 10, SEGMENT + 5)
    with duckdb.connect() as engine:
        seqs = [engine.execute(f"SELECT list(seq ORDER BY seq) FROM '{path}'").fetchone() for path in written]
    assert seqs == [(list(range(SEGMENT - 10, SEGMENT)),), (list(range(SEGMENT, SEGMENT + 5)),)]
    assert export_records(reader, tmp_path / "none", 5, 5) == []


def test_exported_history_read_back_is_the_same_market(reader: TapeReader, tmp_path: Path) -> None:
    folder = tmp_path / "history"
    written = export_history(reader, folder, 0, reader.head.count)
    assert {path.relative_to(folder).as_posix() for path in written} == {
        "trades/A.parquet",
        "quotes/A.parquet",
        "bars_1m/A.parquet",
        "bars_5m/A.parquet",
    }
    for kind, name in (("trades", "A/trade"), ("quotes", "A/quote"), ("bars_1m", "A/bar.1m"), ("bars_5m", "A/bar.5m")):
        series_reader = read_series(series_of(folder, kind, "A"))
        found: list[tuple[float, ...]] = []
        for block in series_reader:
            found += zip(block.ts.tolist(), *(column.tolist() for column in block.values), strict=True)
        assert found == on_tape(reader, name)
        assert not series_reader.report.counts


def test_a_replay_of_exported_history_derives_the_same_streams(reader: TapeReader, tmp_path: Path) -> None:
    """Bars, predictions and ticks made again from the exported trades are those of the tape, in its order."""
    folder = tmp_path / "history"
    export_history(reader, folder, 0, reader.head.count)
    source = ReplaySource(ReplaySpec(folder=str(folder), speed=0.0, from_ns=0, to_ns=0))
    emitted: list[tuple[str, int, str]] = []
    derivation = Derivation(
        source.base("A"),
        {Stream.parse(name): name for name in NAMES},
        emit=lambda name, event_ns, *values: emitted.append((name, event_ns, repr(values))),
        seed=1,
    )
    source.add(("A",))
    for _, kind, event_ns, v0, v1, v2, v3, _ in source.take(1_000_000, FOREVER):
        if kind == Kind.TRADE:
            derivation.trade(event_ns, v0, v1, v2)
        else:
            derivation.quote(event_ns, v0, v1, v2, v3)
    records = [reader.record(seq) for seq in range(reader.head.count)]
    expected = [(reader.streams[r.stream].name, r.event_ns, repr(tuple(r[8:13]))) for r in records]
    assert emitted == expected


def test_a_stream_without_a_record_in_the_range_gets_no_file(reader: TapeReader, tmp_path: Path) -> None:
    """An empty series of trades would be taken for the symbol's base."""
    folder = tmp_path / "history"
    first_bar = min(seq for seq in range(reader.head.count) if reader.record(seq).kind == Kind.BAR)
    written = export_history(reader, folder, first_bar, first_bar + 1)
    assert [path.relative_to(folder).as_posix() for path in written] == ["bars_1m/A.parquet"]
    assert find_series(folder, "A").base.stream == Stream.parse("A/bar.1m")


def test_a_damaged_record_is_never_exported(reader: TapeReader, tmp_path: Path) -> None:
    with files.segment_path(reader.folder, SEGMENT).open("r+b") as file:
        file.seek(7 * SIZE + 33)
        file.write(b"\x55")
    for export in (export_records, export_history):
        with pytest.raises(CorruptRecordError, match=f"seq {SEGMENT + 7}"):
            export(reader, tmp_path / "out", 0, reader.head.count)
        assert not list((tmp_path / "out").rglob("*.parquet"))
        assert export(reader, tmp_path / "sound", 0, SEGMENT + 7)


def test_prices_survive_to_the_last_bit(tmp_path: Path) -> None:
    writer = TapeWriter(tmp_path / "exact", segment_records=SEGMENT)
    stream_id = writer.stream_id(Stream.parse("A/trade"))
    prices = [0.1 + 0.2, math.nextafter(1.0, 2.0), 5e-324, PRICE_MAX, 1 / 3]
    for i, price in enumerate(prices):
        writer.append(stream_id, i, price, 1e-9, 1.0, math.nan, math.nan)
    writer.publish()
    export_history(TapeReader(tmp_path / "exact"), tmp_path / "history", 0, 99)
    [block] = read_series(series_of(tmp_path / "history", "trades", "A"))
    assert block.values[0].tolist() == prices
    writer.close()

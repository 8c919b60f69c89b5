"""Exports a tape to Parquet: every record as it is, and the recorded market in the layout that historical mode reads."""

from pathlib import Path

import numpy as np

from strategy_runner.history.catalog import series_of
from strategy_runner.history.columns import VALUE_COLUMNS
from strategy_runner.history.engine import disk_errors, open_engine, sql_text
from strategy_runner.history.writer import SeriesWriter
from strategy_runner.model.record import Kind
from strategy_runner.model.stream import Stream
from strategy_runner.tape.reader import TapeReader

CHUNK_RECORDS = 65_536
_FOLDERS = {Kind.TRADE: "trades", Kind.QUOTE: "quotes"}


def export_records(reader: TapeReader, folder: Path, first: int, last: int) -> list[Path]:
    """Writes records `first` to `last` - 1 to FOLDER/tape/SEQ.parquet, a file a segment; returns the files.

    Columns: seq, stream (name), kind, event_ns, received_ns, epoch, v0 to v5 (NULL: a missing number). Raises CorruptRecordError,
    DiskFullError.
    """
    target = folder / "tape"
    target.mkdir(parents=True, exist_ok=True)
    _learn_streams(reader)
    names = np.array([stream.name for stream in reader.streams])
    written = []
    _check(reader, first, last)
    for seq, array in reader.arrays(max(first, reader.head.first), last):
        path = target / f"{seq:015d}.parquet"
        chunk = {
            "seq": np.arange(seq, seq + len(array), dtype=np.int64),
            "stream": names[array["stream"]],
            "kind": array["kind"],
            "event_ns": array["event_ns"],
            "received_ns": array["received_ns"],
            "epoch": array["epoch"],
            **{f"v{i}": np.ascontiguousarray(array["v"][:, i]) for i in range(6)},
        }
        with disk_errors(path), open_engine() as engine:
            engine.register("chunk", chunk)
            temporary = path.with_suffix(".new")
            engine.execute(
                f"COPY (SELECT * FROM chunk) TO {sql_text(str(temporary))} (FORMAT parquet, COMPRESSION zstd)"
            )
        temporary.replace(path)
        written.append(path)
    return written


def export_history(reader: TapeReader, folder: Path, first: int, last: int) -> list[Path]:
    """Writes the trades, quotes and bars among the records as a history folder; returns the files.

    A stream without a record among them gets no file: an empty series would pass for a symbol's history. Raises
    CorruptRecordError, DiskFullError.
    """
    _learn_streams(reader)
    _check(reader, first, last)
    written = []
    for stream_id, stream in enumerate(reader.streams):
        if stream.kind not in (Kind.TRADE, Kind.QUOTE, Kind.BAR) or not reader.entries(stream_id):
            continue
        series = series_of(folder, _folder_of(stream), stream.symbol)
        columns = len(VALUE_COLUMNS[stream.kind])
        with SeriesWriter(series) as writer:
            rows = 0
            for _, array in reader.arrays(max(first, reader.head.first), last):
                own = array[array["stream"] == stream_id]
                rows += len(own)
                for start in range(0, len(own), CHUNK_RECORDS):
                    part = own[start : start + CHUNK_RECORDS]
                    values = [np.ascontiguousarray(part["v"][:, i]) for i in range(columns)]
                    writer.append(np.ascontiguousarray(part["event_ns"]), values)
            if rows:
                writer.commit()
                written.append(series.path)
    return written


def _check(reader: TapeReader, first: int, last: int) -> None:
    """Reads each record once with its crc: a copy of damaged bytes would pass for sound ones for ever."""
    for seq in range(max(first, reader.head.first), min(last, reader.head.count)):
        reader.fields(seq)


def _learn_streams(reader: TapeReader) -> None:
    """A tape names its streams in a log of its own; asking for any unknown one reads it to its end."""
    reader.find(Stream("", Kind.PRIVATE))


def _folder_of(stream: Stream) -> str:
    return f"bars_{stream.timeframe}" if stream.kind is Kind.BAR else _FOLDERS[stream.kind]

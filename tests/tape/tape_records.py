"""Records for tests of the tape: the values of a record follow from its seq, so a reader can check what it sees.

python tape_records.py FOLDER SEGMENT_RECORDS SEED      writes such records until it is killed, in batches of random size
"""

import random
import sys
import threading
from pathlib import Path

from strategy_runner.model.stream import bars, quotes, trades
from strategy_runner.tape.reader import TapeReader
from strategy_runner.tape.writer import TapeWriter

STREAMS = (trades("BTC-USD"), quotes("BTC-USD"), bars("BTC-USD", "1m"))


def stream_of_seq(seq: int) -> int:
    """Trades are most of the records, bars the fewest."""
    return (seq * 2654435761 % 10) // 4


def append(writer: TapeWriter, count: int) -> None:
    for _ in range(count):
        seq = writer.seq
        writer.append(stream_of_seq(seq), 1_000 + seq, float(seq), seq / 7.0, -float(seq), 0.5, float(seq % 13))


def open_writer(folder: Path, *, segment_records: int = 64) -> TapeWriter:
    writer = TapeWriter(folder, segment_records=segment_records)
    assert [writer.stream_id(stream) for stream in STREAMS] == [0, 1, 2]
    writer.received_ns = 5
    return writer


def check(reader: TapeReader, start: int, stop: int) -> None:
    """Every record of [start, stop) is the one that belongs there."""
    for seq in range(start, stop):
        record = reader.record(seq)
        found = (record.stream, record.event_ns, record.v0, record.v1, record.v2, record.v4)
        assert found == (stream_of_seq(seq), 1_000 + seq, float(seq), seq / 7.0, -float(seq), float(seq % 13)), seq


def check_streams(reader: TapeReader, count: int) -> None:
    """The streams' entries below `count` are exactly the seqs of their records."""
    expected: list[list[int]] = [[], [], []]
    for seq in range(count):
        expected[stream_of_seq(seq)].append(seq)
    for stream, seqs in zip(STREAMS, expected, strict=True):
        stream_id = reader.find(stream)
        assert stream_id is not None
        assert stream_seqs(reader, stream_id)[: len(seqs)] == seqs


def stream_seqs(reader: TapeReader, stream_id: int) -> list[int]:
    found: list[int] = []
    while len(found) < reader.entries(stream_id):
        found += reader.seqs(stream_id, len(found), reader.entries(stream_id))
    return found


def write_until_killed(folder: Path, segment_records: int, seed: int) -> None:
    writer = open_writer(folder, segment_records=segment_records)
    rng = random.Random(seed)

    def keep_durable() -> None:
        while True:
            writer.make_durable()

    threading.Thread(target=keep_durable, daemon=True).start()
    print("ready", flush=True)
    while True:
        append(writer, rng.randint(1, 50))
        writer.publish()


if __name__ == "__main__":
    write_until_killed(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))

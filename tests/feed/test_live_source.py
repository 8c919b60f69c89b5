"""A source that cannot be rewound: killed at any moment, the feed goes on from its tape and says what it missed."""

import json
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from feed_process import PATIENCE_S, FeedProcess, check_whole, contents

from strategy_runner.feed.derive import Derivation
from strategy_runner.feed.sources.interface import Raw
from strategy_runner.model.record import SIZE, GapCause, Kind, Record
from strategy_runner.model.stream import Stream, gaps, quotes, trades
from strategy_runner.tape import files
from strategy_runner.tape.head import Head

SECOND = 1_000_000_000
SYMBOLS = ("BTC-USD", "ETH-USD")
NAN = float("nan")
# nobody reads trades of ETH-USD: they are on the tape all the same, since nothing else could make its bars again
STREAMS = (
    "BTC-USD/trade",
    "BTC-USD/quote",
    "BTC-USD/bar.1m",
    "BTC-USD/clock.1s",
    "BTC-USD/prediction.m1.1m",
    "ETH-USD/bar.1m",
    "ETH-USD/prediction.m1.1m",
    "clock/1s",
)


def rows(count: int, *, seed: int = 3, begin: int = 0) -> list[Raw]:
    """Trades of two symbols and quotes of one, a few seconds apart; row n is the same however many are asked for."""
    start_ns = time.time_ns() - 86_400 * SECOND
    start_ns -= start_ns % (60 * SECOND)
    luck = random.Random(seed)
    made: list[Raw] = []
    for n in range(begin + count):
        at_ns, price = start_ns + n * 3 * SECOND, round(100 + luck.gauss(0, 1), 2)
        kind = luck.choice((Kind.TRADE, Kind.TRADE, Kind.QUOTE))
        if kind is Kind.QUOTE:
            made.append(("BTC-USD", int(kind), at_ns, price, price + 0.5, 1.0, 2.0, 0.0))
        else:
            made.append((luck.choice(SYMBOLS), int(kind), at_ns, price, 1.0, 1.0, 0.0, 0.0))
    return made[begin:]


class LiveFeed(FeedProcess):
    """A feed on the other end of a socket; `send` is the market."""

    def __init__(self, *, checkpoint_records: int = 100_000, streams: tuple[str, ...] = STREAMS) -> None:
        super().__init__(streams, segment_records=2_048)
        self._path = str(self.root / "market.sock")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self._path)
        self._listener.listen()
        self._listener.settimeout(PATIENCE_S)
        self._checkpoint_records = checkpoint_records
        self._market: socket.socket | None = None

    def _command(self) -> list[str]:
        child = Path(__file__).parent / "line_source.py"
        return [sys.executable, str(child), str(self.spec_path), self._path, str(self._checkpoint_records)]

    def start(self) -> None:
        super().start()
        self._market, _ = self._listener.accept()

    def send(self, sent: list[Raw] | list[list[object]]) -> None:
        assert self._market is not None
        self._market.sendall(b"".join(json.dumps(row).encode() + b"\n" for row in sent))

    def wait_row(self, row: Raw) -> None:
        """Until a row is on the tape."""
        self.wait_ready()  # before that the tape may still await recovery
        reader, stream = self.reader(), Stream(row[0], Kind(row[1]))

        def is_there() -> bool:
            stream_id = reader.find(stream)
            end = 0 if stream_id is None else reader.first_ordinal_at(stream_id, reader.head.count)
            if stream_id is None or not end:
                return False
            return reader.record(reader.seqs(stream_id, end - 1, end)[0]).event_ns >= row[2]

        self._wait(is_there)
        reader.close()

    def records(self) -> list[tuple[Stream, Record]]:
        reader = self.reader()
        streams = reader.all_streams()
        found = [reader.record(seq) for seq in range(reader.head.count)]
        reader.close()
        return [(streams[record.stream], record) for record in found]

    def forget_checkpoints(self) -> None:
        for path in sorted(Path(self.spec.folder).glob("*.checkpoint"))[1:]:
            path.unlink()


@pytest.fixture
def feed() -> Iterator[LiveFeed]:
    with LiveFeed() as opened:
        yield opened


def kept(feed: LiveFeed, kind: Kind) -> list[tuple[str, int, float]]:
    return [(stream.symbol, record.event_ns, record.v0) for stream, record in feed.records() if stream.kind is kind]


def expected_records(sent: list[Raw], streams: tuple[str, ...] = STREAMS) -> list[tuple[str, int, str]]:
    """What the rows cause, but for the wall clock and gaps: made by derivations that nothing ever disturbed."""
    found: list[tuple[str, int, str]] = []

    def emit(name: str, event_ns: int, *values: float) -> None:
        found.append((name, event_ns, repr(values)))

    wanted = {Stream.parse(name) for name in streams} | {trades(symbol) for symbol in SYMBOLS}
    derivations = {
        symbol: Derivation(trades(symbol), {s: s.name for s in wanted if s.symbol == symbol}, emit=emit, seed=1)
        for symbol in SYMBOLS
    }
    for symbol, kind, event_ns, v0, v1, v2, v3, _ in sent:
        if kind == Kind.TRADE:
            derivations[symbol].trade(event_ns, v0, v1, v2)
        elif kind == Kind.QUOTE:
            derivations[symbol].quote(event_ns, v0, v1, v2, v3)
    return found


def derived_records(feed: LiveFeed) -> list[tuple[str, int, str]]:
    return [
        (stream.name, record.event_ns, repr(tuple(record[8:13])))
        for stream, record in feed.records()
        if stream.symbol and stream.kind is not Kind.GAP
    ]


def test_a_killed_feed_brings_its_derivations_to_where_the_tape_ends_and_notes_what_it_missed() -> None:
    """Killed again and again in the middle of bars, between checkpoints: what it derives is as if it had never died."""
    sent = rows(1_500)
    luck = random.Random(5)
    with LiveFeed(checkpoint_records=400) as feed:
        done, cut = 0, sorted(luck.sample(range(100, 1_400), 4))
        for end in [*cut, len(sent)]:
            feed.start()
            feed.send(sent[done:end])
            feed.wait_row(sent[end - 1])
            done = end
            if end < len(sent):
                feed.kill()
        assert feed.stop() == 0
        assert derived_records(feed) == expected_records(sent)
        found = [(stream.symbol, r.event_ns, r.v0, r.v1) for stream, r in feed.records() if stream.kind is Kind.GAP]
        check_whole(feed.reader())
    expected = []
    for at in cut:
        for symbol in SYMBOLS:
            last = next(row for row in reversed(sent[:at]) if row[0] == symbol)
            after = next(row for row in sent[at:] if row[0] == symbol)
            expected.append((symbol, after[2], (after[2] - last[2]) / SECOND, float(GapCause.FEED_DOWN)))
    assert sorted(found) == sorted(expected)


def test_without_any_checkpoint_but_the_first_the_tape_alone_is_enough(feed: LiveFeed) -> None:
    sent = rows(900)
    feed.start()
    feed.send(sent[:600])
    feed.wait_row(sent[599])
    feed.kill()
    feed.forget_checkpoints()
    feed.start()
    feed.send(sent[600:])
    feed.wait_row(sent[-1])
    assert feed.stop() == 0
    assert derived_records(feed) == expected_records(sent)


def test_the_derived_records_whose_cause_a_power_cut_took_go_with_it(feed: LiveFeed) -> None:
    """A bar that closed because of a trade that is lost would close again with the next one."""
    sent = rows(600)
    feed.start()
    feed.send(sent)
    feed.wait_row(sent[-1])
    feed.kill()
    records = feed.records()
    said = max(seq for seq, (stream, _) in enumerate(records) if stream.name == "BTC-USD/prediction.m1.1m")
    at = next(seq for seq in range(said, len(records)) if records[seq][0] == trades("BTC-USD"))
    raw = max(seq for seq in range(said) if records[seq][0].kind in (Kind.TRADE, Kind.QUOTE))
    bar = max(seq for seq in range(said) if seq == raw or not records[seq][0].symbol) + 1
    assert at - bar == 3, "a bar, a prediction and a tick of the clock, and what caused them"
    head = Head(files.head_path(feed.tape), writable=True)
    head.durable, head.boot = bar - 1, 1
    path = files.segment_path(feed.tape, at - at % 2_048)
    with path.open("r+b") as file:
        file.seek(at % 2_048 * SIZE)
        file.write(bytes(2_048 * SIZE - at % 2_048 * SIZE))
    feed.forget_checkpoints()
    before = contents(feed.reader())[:bar]
    left = [row for row in sent if row[2] > records[raw][1].event_ns]
    feed.start()
    feed.send(left)
    feed.wait_row(left[-1])
    assert feed.stop() == 0
    assert contents(feed.reader())[:bar] == before
    assert feed.reader().cuts() == [(2, bar)]
    assert derived_records(feed) == expected_records(sent)


def test_a_tape_that_was_tampered_with_halts_the_feed(feed: LiveFeed) -> None:
    sent = rows(600)
    feed.start()
    feed.send(sent)
    feed.wait_row(sent[-1])
    feed.kill()
    feed.forget_checkpoints()
    feed.spec_path.write_text(feed.spec_path.read_text().replace('"seed": 1', '"seed": 2'))  # another mock model
    feed.start()
    assert feed.wait_ended() == 1
    assert "expected (" in feed.log_path.read_text()


# -- bad rows ----------------------------------------------------------------------------------------------------------


def bad_rows(row: Raw, luck: random.Random) -> list[list[object]]:
    """What must not touch the tape, at the time of a sound row of BTC-USD."""
    _, _, at_ns, *_ = row
    trade: list[object] = ["BTC-USD", int(Kind.TRADE), at_ns, 100.0, 1.0, 1.0, 0.0, 0.0]
    quote: list[object] = ["BTC-USD", int(Kind.QUOTE), at_ns, 100.0, 100.5, 1.0, 2.0, 0.0]
    changes: list[tuple[list[object], int, object]] = [
        (trade, 3, NAN),
        (trade, 3, float("inf")),
        (trade, 3, 0.0),
        (trade, 3, -5.0),
        (trade, 3, None),
        (trade, 3, "100"),
        (trade, 4, -1.0),
        (trade, 4, NAN),
        (trade, 2, 0),
        (trade, 2, -(10**30)),
        (trade, 2, 10**30),
        (trade, 2, 1.5),
        (trade, 2, time.time_ns() + 90_000 * SECOND),
        (trade, 2, at_ns - 3_600 * SECOND),
        (trade, 0, "NOBODY"),
        (trade, 1, 77),
        (trade, 1, int(Kind.BAR)),
        (trade, 0, ["BTC-USD"]),
        (quote, 3, 101.0),
        (quote, 4, NAN),
        (quote, 5, -2.0),
    ]
    made = []
    for base, index, value in luck.sample(changes, 5):
        made.append([*base[:index], value, *base[index + 1 :]])
    return made


def test_bad_rows_never_touch_the_tape_and_sound_ones_stay_as_they_are(feed: LiveFeed) -> None:
    sent = rows(400)
    luck = random.Random(11)
    mixed: list[list[object]] = []
    bad = 0
    for row in sent:
        mixed.append(list(row))
        if row[0] == "BTC-USD":
            spoiled = bad_rows(row, luck)
            mixed += spoiled
            bad += len(spoiled)
        if row[1] == Kind.QUOTE:
            mixed.append(list(row))  # a quote twice says nothing new
            bad += 1
    feed.start()
    feed.send(mixed)
    feed.wait_row(sent[-1])
    feed.wait_beats(2)
    assert feed.status().refusals == bad
    assert feed.stop() == 0
    assert derived_records(feed) == expected_records(sent)
    text = feed.log_path.read_text()
    assert "BTC-USD: not_finite" in text
    assert text.count("BTC-USD: implausible_time") < 20, "the 1st, 2nd, 4th, 8th ... is told"


def test_a_trade_that_is_a_little_late_is_kept_at_the_time_of_the_last_one(feed: LiveFeed) -> None:
    """And derivations never see time go back, in this process or after a kill."""
    sent = rows(200)
    late = [
        (*row[:2], row[2] - 3 * SECOND - SECOND // 2, *row[3:]) if n % 10 == 5 and row[1] == Kind.TRADE else row
        for n, row in enumerate(sent)
    ]
    feed.start()
    feed.send(late)
    feed.wait_row(sent[-1])
    feed.kill()
    for symbol in SYMBOLS:
        times = [record.event_ns for stream, record in feed.records() if stream == trades(symbol)]
        assert times == sorted(times)
    count = len(kept(feed, Kind.TRADE))
    feed.start()
    feed.send(rows(1, begin=200))
    feed.wait_row(rows(1, begin=200)[0])
    assert feed.stop() == 0
    assert len(kept(feed, Kind.TRADE)) + len(kept(feed, Kind.QUOTE)) > count


def test_a_gap_that_the_source_reports_is_on_the_tape_though_nobody_reads_it(feed: LiveFeed) -> None:
    sent = rows(50)
    gap: Raw = ("ETH-USD", int(Kind.GAP), sent[29][2], 12.5, float(GapCause.SOURCE_LOST), 0.0, 0.0, 0.0)
    feed.start()
    feed.send([*sent[:30], gap, *sent[30:]])
    feed.wait_row(sent[-1])
    assert feed.stop() == 0
    assert kept(feed, Kind.GAP) == [("ETH-USD", sent[29][2], 12.5)]
    reader = feed.reader()
    stream_id = reader.find(gaps("ETH-USD"))
    assert stream_id is not None
    assert reader.record(reader.seqs(stream_id, 0, 1)[0]).v1 == GapCause.SOURCE_LOST
    assert reader.find(quotes("BTC-USD")) is not None


def test_a_disk_that_was_full_leaves_a_gap_of_a_live_source(tmp_path: Path) -> None:
    """Whatever the source held back for it: nobody knows whether that was all."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(tmp_path)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system here: {mounted.stderr.decode().strip()}")
    try:
        with LiveFeed() as feed:
            Path(feed.spec.folder).parent.mkdir(parents=True, exist_ok=True)
            Path(feed.spec.folder).symlink_to(tmp_path)
            sent = rows(3_000)
            feed.start()
            feed.send(sent[:200])
            feed.wait_row(sent[199])
            ballast = tmp_path / "ballast"
            with pytest.raises(OSError, match="No space"), ballast.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4_096))
            feed.send(sent[200:])
            feed.wait_halted()
            process = psutil.Process(feed.status().pid)
            before = sum(process.cpu_times()[:2])
            time.sleep(1.0)
            assert sum(process.cpu_times()[:2]) - before < 0.5, "rows that wait for it are no reason to turn"
            ballast.unlink()
            feed.wait_row(sent[-1])
            assert feed.stop() == 0
            assert derived_records(feed) == expected_records(sent)
            found = [(stream.symbol, record.v1) for stream, record in feed.records() if stream.kind is Kind.GAP]
            assert sorted(found) == [(symbol, float(GapCause.DISK_FULL)) for symbol in SYMBOLS]
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)

"""The DuckDB sink: what an analyst finds, and what the file survives."""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import msgspec
import pytest
from sink_contents import contents
from sink_decisions import CLIENT, EPOCH_NS, body, decided, log_of, open_sink, poisoned

from strategy_runner.sinks.duckdb_sink import DuckDbSink
from strategy_runner.sinks.interface import DeadLetter, SinkUnavailable


@pytest.fixture
def letters() -> list[DeadLetter]:
    return []


@pytest.fixture
def sink(tmp_path: Path, letters: list[DeadLetter]) -> Iterator[DuckDbSink]:
    opened = DuckDbSink(tmp_path / "client.duckdb", CLIENT, letters.append)
    yield opened
    opened.close()


def test_a_new_sink_needs_decision_0_and_then_the_one_after_the_last(sink: DuckDbSink) -> None:
    assert sink.cursor() == 0
    sink.write(log_of(10))
    assert sink.cursor() == 10
    sink.write(log_of(3, start=10))
    assert sink.cursor() == 13


def test_a_signal_is_one_row_with_every_field(sink: DuckDbSink) -> None:
    signal = msgspec.structs.replace(
        body(4), cause=msgspec.structs.replace(body(4).cause, event_ns=EPOCH_NS + 1_234_567)
    )
    sink.write([decided(signal, 0)])
    names, rows = sink.query("SELECT * FROM signals", 10)
    row = dict(zip(names, rows[0], strict=True))
    assert len(rows) == 1
    assert row["signal_id"] == signal.id
    assert row["size"] == 4.1
    assert row["entry_price"] == 100.25
    assert row["take_profit"] is None
    assert row["reasons"] == ['crossed, and "held"', "closes:short"]
    assert row["event_time"] == datetime(2023, 11, 14, 22, 13, 20, 1234, tzinfo=UTC)
    assert row["event_ns"] == EPOCH_NS + 1_234_567
    assert row["seq"] == 0
    assert msgspec.json.decode(row["body"])["cause"]["stream"] == "BRK.B/bar.1m"
    assert sink.query("SELECT model FROM signal_models", 10)[1] == [("slow",)]


def test_a_signal_refused_for_want_of_a_size_has_none(sink: DuckDbSink) -> None:
    signal = msgspec.structs.replace(body(0), size=None, confidence=None, refusal="size.unknown")
    sink.write([decided(signal, 0, "refused")])
    assert sink.query("SELECT size, confidence, refused_by FROM signals", 1)[1] == [(None, None, "worker")]


def test_the_views_count_what_was_decided(sink: DuckDbSink) -> None:
    sink.write(log_of(96))
    accepted = sink.query("SELECT count(*) FROM accepted_signals", 1)[1]
    refused = sink.query("SELECT verdict, reason, refused_by, sum(signals) FROM refusals GROUP BY ALL", 9)[1]
    days = sink.query("SELECT min(day_utc)::VARCHAR, sum(signals), sum(accepted), sum(refused) FROM signals_by_day", 1)[
        1
    ]
    assert accepted == [(76,)]
    assert refused == [("refused", "risk.max_position_notional", "router", 20)]
    assert days == [("2023-11-14", 96, 76, 20)]


def test_times_do_not_depend_on_the_time_zone_of_the_machine(tmp_path: Path, sink: DuckDbSink) -> None:
    program = (
        "import sys; from pathlib import Path; from sink_decisions import log_of, open_sink\n"
        "sink = open_sink('duckdb', Path(sys.argv[1]), print); sink.write(log_of(3)); sink.close()"
    )
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = os.environ | {"TZ": "America/New_York", "PYTHONPATH": paths}
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], env=environment, check=True)
    question = "SELECT count(*) FROM signals WHERE epoch_ns(event_time) = event_ns // 1000 * 1000"
    assert sink.query(question, 1)[1] == [(3,)]


def test_a_decision_it_can_never_keep_becomes_a_dead_letter_and_the_rest_goes_on(
    sink: DuckDbSink, letters: list[DeadLetter]
) -> None:
    huge = msgspec.structs.replace(decided(body(200), 200), decided_ns=2**70)
    foreign = decided(msgspec.structs.replace(body(201), client="adaeze"), 201)
    sink.write([*log_of(200), huge, foreign])
    assert {letter.number for letter in letters} == poisoned(200) | {200, 201}
    assert "expected 'ikenna', found 'adaeze'" in letters[-1].problem
    assert sink.cursor() == 202
    assert sink.query("SELECT count(*) FROM signals", 1)[1] == [(198,)]


def test_a_batch_of_dead_letters_only_still_moves_the_cursor(sink: DuckDbSink) -> None:
    sink.write([msgspec.structs.replace(decided(body(0), 0), body=b"")])
    assert sink.cursor() == 1


def test_decisions_out_of_order_are_the_routers_fault(sink: DuckDbSink) -> None:
    with pytest.raises(AssertionError, match="expected decision 0, found 1"):
        sink.write(log_of(2, start=1))
    with pytest.raises(AssertionError, match="dense"):
        sink.write([log_of(1)[0], *log_of(2, start=5)])


@pytest.mark.parametrize(
    "garbage", [b"", b"hello", bytes(20_000), os.urandom(20_000)], ids=["empty", "text", "zeros", "noise"]
)
def test_a_file_that_is_no_database_is_set_aside_and_rebuilt(
    garbage: bytes, tmp_path: Path, sink: DuckDbSink, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "client.duckdb"
    path.write_bytes(garbage)
    with caplog.at_level(logging.WARNING):
        assert sink.cursor() == 0
    aside = tmp_path / "client.duckdb.damaged-1"
    assert aside.read_bytes() == garbage
    assert str(path) in caplog.text
    assert str(aside) in caplog.text
    sink.write(log_of(5))
    assert sink.cursor() == 5


def test_a_file_with_damaged_blocks_is_set_aside_and_rebuilt(tmp_path: Path, sink: DuckDbSink) -> None:
    sink.write(log_of(500))
    sink.close()
    path = tmp_path / "client.duckdb"
    content = bytearray(path.read_bytes())
    content[12_288:] = bytes(byte ^ 0x55 for byte in content[12_288:])
    path.write_bytes(content)
    assert sink.cursor() == 0
    assert (tmp_path / "client.duckdb.damaged-1").read_bytes() == content


def test_the_file_of_another_client_or_format_is_set_aside(tmp_path: Path, sink: DuckDbSink) -> None:
    with duckdb.connect(str(tmp_path / "client.duckdb")) as other:
        other.execute("CREATE TABLE holiday_photos (name VARCHAR)")
    assert sink.cursor() == 0
    with duckdb.connect(str(tmp_path / "client.duckdb.damaged-1")) as aside:
        assert aside.execute("SHOW TABLES").fetchall() == [("holiday_photos",)]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("ALTER TABLE signals ADD COLUMN mine INTEGER", "['mine INTEGER'] altered"),
        ("ALTER TABLE signal_models DROP COLUMN weight", "['weight DOUBLE'] altered"),
        ("ALTER TABLE signals ALTER COLUMN seq TYPE VARCHAR", "['seq BIGINT', 'seq VARCHAR'] altered"),
        ("DROP TABLE watermark", "['next_number BIGINT'] altered"),
        (
            "CREATE TABLE w2 AS SELECT event_ns, * EXCLUDE event_ns FROM signal_models; DROP TABLE signal_models; "
            "ALTER TABLE w2 RENAME TO signal_models",
            "their order altered",
        ),
    ],
    ids=["added", "dropped", "type", "table", "order"],
)
def test_a_file_that_somebody_altered_is_set_aside_and_rebuilt(
    change: str, found: str, tmp_path: Path, sink: DuckDbSink, caplog: pytest.LogCaptureFixture
) -> None:
    """Each batch failed for ever, or went into the wrong columns."""
    sink.write(log_of(5))
    sink.close()
    with duckdb.connect(str(tmp_path / "client.duckdb")) as altered:
        altered.execute("CREATE TABLE notes (words VARCHAR); CREATE VIEW own AS SELECT 1 AS one")
    assert sink.cursor() == 5, "what is beside the tables is not ours"
    sink.close()
    with duckdb.connect(str(tmp_path / "client.duckdb")) as altered:
        altered.execute(change)
    assert sink.cursor() == 0
    assert found in caplog.text
    sink.write(log_of(5))
    assert (tmp_path / "client.duckdb.damaged-1").exists()


def test_a_log_without_its_file_is_not_replayed_into_a_new_one(tmp_path: Path, sink: DuckDbSink) -> None:
    (tmp_path / "client.duckdb.wal").write_bytes(b"left alone")
    assert sink.cursor() == 0
    assert (tmp_path / "client.duckdb.damaged-1.wal").read_bytes() == b"left alone"


def test_a_file_another_process_has_open_is_waited_for_not_set_aside(tmp_path: Path, sink: DuckDbSink) -> None:
    sink.write(log_of(5))
    sink.close()
    program = "import duckdb, sys; held = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", program, str(tmp_path / "client.duckdb")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(SinkUnavailable, match="lock"):
            sink.cursor()
        holder.communicate()
    assert sink.cursor() == 5
    assert not list(tmp_path.glob("*.damaged*"))


def test_many_small_batches_hold_what_one_large_one_holds(tmp_path: Path) -> None:
    decisions = log_of(300)
    for folder, size in (("small", 7), ("large", 300)):
        sink = open_sink("duckdb", tmp_path / folder, lambda letter: None)
        for start in range(0, 300, size):
            sink.write(decisions[start : start + size])
        sink.close()
    assert contents("duckdb", tmp_path / "small") == contents("duckdb", tmp_path / "large")


def test_a_question_beside_the_writer_finds_rows_and_watermark_always_in_step(sink: DuckDbSink) -> None:
    last_row, watermark = "(SELECT max(number) + 1 FROM signals)", "(SELECT max(next_number) FROM watermark)"
    sink.write(log_of(1))
    answers: list[tuple[int, int]] = []
    written = threading.Event()

    def ask() -> None:
        while not written.is_set():
            answers.extend(sink.query(f"SELECT {last_row}, {watermark}", 1)[1])

    asking = threading.Thread(target=ask)
    asking.start()
    for start in range(1, 801, 20):
        sink.write(log_of(20, start))
    written.set()
    asking.join()
    assert len(set(answers)) > 1, "it must have answered while rows came in"
    assert all(rows == mark for rows, mark in answers)

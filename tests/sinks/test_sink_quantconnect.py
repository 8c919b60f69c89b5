"""The QuantConnect sink: the files LEAN reads, and what they survive."""

import logging
import re
from pathlib import Path

import msgspec
import pytest
from sink_contents import contents
from sink_decisions import CLIENT, EPOCH_NS, body, decided, log_of, open_sink, poisoned

from strategy_runner.model.decision import Decision
from strategy_runner.sinks.interface import DeadLetter
from strategy_runner.sinks.quantconnect import QuantConnectSink
from strategy_runner.sinks.quantconnect_row import HEADER

# LEAN's own rule for names in its Object Store
OBJECT_STORE_KEY = re.compile(r"^\.?[a-zA-Z0-9\\/_#\-\$= ]+\.?[a-zA-Z0-9]*$")


@pytest.fixture
def letters() -> list[DeadLetter]:
    return []


@pytest.fixture
def sink(tmp_path: Path, letters: list[DeadLetter]) -> QuantConnectSink:
    return QuantConnectSink(tmp_path, CLIENT, letters.append)


def reopened(folder: Path) -> QuantConnectSink:
    return QuantConnectSink(folder, CLIENT, lambda letter: None)


def lines(folder: Path, name: str) -> list[str]:
    return (folder / "signals" / CLIENT / name).read_text().splitlines()


def buy(number: int, event_ns: int, symbol: str = "BTC-USD", strategy: str = "swing") -> Decision:
    cause = msgspec.structs.replace(body(0).cause, event_ns=event_ns)
    changed = msgspec.structs.replace(body(0), cause=cause, symbol=symbol, strategy=strategy, id=f"s{number}")
    return decided(changed, number)


def test_each_symbol_has_a_file_with_a_header_and_a_key_lean_accepts(tmp_path: Path, sink: QuantConnectSink) -> None:
    sink.write(log_of(60))
    folder = tmp_path / "signals" / CLIENT
    assert sorted(path.name for path in folder.glob("*.csv")) == ["BRK_B.csv", "BTC-USD.csv", "ETH-USD.csv"]
    for path in folder.glob("*.csv"):
        assert path.read_bytes().startswith(HEADER)
        assert OBJECT_STORE_KEY.fullmatch(str(path.relative_to(tmp_path)))


def test_every_accepted_signal_is_one_line_and_no_other_is(tmp_path: Path, sink: QuantConnectSink) -> None:
    sink.write(log_of(300))
    folder = tmp_path / "signals" / CLIENT
    rows = [row.split(",") for path in folder.glob("*.csv") for row in path.read_text().splitlines()[1:]]
    accepted = [d for d in log_of(300) if d.verdict == "accepted" and d.number not in poisoned(300)]
    assert sorted(row[1] for row in rows) == sorted(d.signal_id for d in accepted)
    assert {len(row) for row in rows} == {8}


def test_times_strictly_increase_within_and_across_batches(tmp_path: Path, sink: QuantConnectSink) -> None:
    sink.write([buy(0, EPOCH_NS), buy(1, EPOCH_NS), buy(2, EPOCH_NS - 5_000_000)])
    sink.close()
    sink.write([buy(3, EPOCH_NS), buy(4, EPOCH_NS + 1_000_000)])
    assert [row.split(",")[0].partition(".")[2] for row in lines(tmp_path, "BTC-USD.csv")[1:]] == [
        "000000",
        "000001",
        "000002",
        "000003",
        "001000",
    ]


def test_the_cursor_counts_refused_decisions_too(tmp_path: Path, sink: QuantConnectSink) -> None:
    sink.write([decided(body(0), 0, "refused"), decided(body(1), 1, "expired")])
    assert sink.cursor() == 2
    assert reopened(tmp_path).cursor() == 2
    assert not list(tmp_path.rglob("*.csv"))


def test_a_signal_it_can_never_write_becomes_a_dead_letter(
    tmp_path: Path, sink: QuantConnectSink, letters: list[DeadLetter]
) -> None:
    sink.write([buy(0, EPOCH_NS, strategy="a,b"), buy(1, EPOCH_NS)])
    assert letters == [
        DeadLetter(
            sink="quantconnect",
            number=0,
            signal_id="s0",
            problem="strategy: expected text without comma, quote or control character, found 'a,b'",
        )
    ]
    assert len(lines(tmp_path, "BTC-USD.csv")) == 2
    assert sink.cursor() == 2


def test_two_symbols_never_share_a_file(tmp_path: Path, sink: QuantConnectSink, letters: list[DeadLetter]) -> None:
    sink.write([buy(0, EPOCH_NS, "BRK.B"), buy(1, EPOCH_NS, "BRK_B")])
    sink.write([buy(2, EPOCH_NS, "BRK_B")])
    assert [letter.number for letter in letters] == [1, 2]
    assert len(lines(tmp_path, "BRK_B.csv")) == 2


def test_a_death_between_the_files_and_the_cursor_writes_the_same_bytes_again(tmp_path: Path) -> None:
    folder = tmp_path / "died"
    cursor = folder / "signals" / CLIENT / ".cursor"
    sink = reopened(folder)
    sink.write(log_of(50))
    before = cursor.read_bytes()
    sink.write(log_of(50, 50))
    cursor.write_bytes(before)

    again = reopened(folder)
    assert again.cursor() == 50
    again.write(log_of(30, 50))
    again.write(log_of(20, 80))
    calm = open_sink("quantconnect", tmp_path / "calm", lambda letter: None)
    calm.write(log_of(100))
    assert contents("quantconnect", folder) == contents("quantconnect", tmp_path / "calm")


def test_a_death_before_the_first_cursor_begins_the_files_anew(tmp_path: Path, sink: QuantConnectSink) -> None:
    sink.write(log_of(50))
    whole = contents("quantconnect", tmp_path)
    (tmp_path / "signals" / CLIENT / ".cursor").unlink()
    again = reopened(tmp_path)
    assert again.cursor() == 0
    again.write(log_of(50))
    assert contents("quantconnect", tmp_path) == whole


def test_half_a_line_beyond_the_cursor_is_cut_off(tmp_path: Path, sink: QuantConnectSink) -> None:
    sink.write(log_of(50))
    whole = contents("quantconnect", tmp_path)
    with (tmp_path / "signals" / CLIENT / "ETH-USD.csv").open("ab") as file:
        file.write(b"2023-11-14 22:13:2")
    assert reopened(tmp_path).cursor() == 50
    assert contents("quantconnect", tmp_path) == whole


@pytest.mark.parametrize("damage", ["missing", "shorter", "edited", "cursor"])
def test_damaged_files_are_rebuilt_from_decision_0(
    damage: str, tmp_path: Path, sink: QuantConnectSink, caplog: pytest.LogCaptureFixture
) -> None:
    sink.write(log_of(50))
    whole = contents("quantconnect", tmp_path)
    path = tmp_path / "signals" / CLIENT / ("ETH-USD.csv" if damage != "cursor" else ".cursor")
    content = path.read_bytes()
    match damage:
        case "missing":
            path.unlink()
        case "shorter":
            path.write_bytes(content[:-1])
        case "edited":
            path.write_bytes(content.replace(b"BUY", b"buy", 1))
        case "cursor":
            path.write_bytes(content.replace(b"50", b"49", 1))
    with caplog.at_level(logging.WARNING):
        again = reopened(tmp_path)
        assert again.cursor() == 0
    assert str(path) in caplog.text
    assert "rebuilding" in caplog.text
    again.write(log_of(20))
    again.write(log_of(30, 20))
    assert contents("quantconnect", tmp_path) == whole


def test_clients_in_one_folder_do_not_meet(tmp_path: Path, sink: QuantConnectSink) -> None:
    sink.write(log_of(20))
    other = QuantConnectSink(tmp_path, "adaeze", lambda letter: None)
    assert other.cursor() == 0
    other.write([decided(msgspec.structs.replace(body(0), client="adaeze"), 0)])
    assert sink.cursor() == 20
    assert len(lines(tmp_path, "BTC-USD.csv")) > 2


def test_the_reader_is_beside_the_files_and_renewed_when_it_differs(tmp_path: Path, sink: QuantConnectSink) -> None:
    sink.cursor()
    reader = tmp_path / "signal_data.py"
    shipped = reader.read_text()
    assert "class SignalData(PythonData)" in shipped
    reader.write_text("an older one")
    assert reopened(tmp_path).cursor() == 0
    assert reader.read_text() == shipped

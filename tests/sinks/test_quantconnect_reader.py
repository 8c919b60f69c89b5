"""The shipped reader under LEAN's rules: what the sink writes is delivered, each signal exactly once."""

import importlib.util
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from lean_rules import ObjectStorePolling, RemoteFilePolling, backtest
from sink_decisions import CLIENT, log_of, poisoned

from strategy_runner.sinks.quantconnect import READER_NAME, QuantConnectSink

SYMBOL = "BRK.B"
KEY = f"signals/{CLIENT}/BRK_B.csv"
COUNT = 600


@pytest.fixture
def sink(tmp_path: Path) -> QuantConnectSink:
    opened = QuantConnectSink(tmp_path, CLIENT, lambda letter: None)
    opened.cursor()
    return opened


@pytest.fixture
def lean(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).with_name("lean")))
    return importlib.import_module("AlgorithmImports")


@pytest.fixture
def signal_data(tmp_path: Path, sink: QuantConnectSink, lean: ModuleType) -> type[Any]:
    """A subscription as the reader's own comment shows it, made from the shipped file."""
    spec = importlib.util.spec_from_file_location("signal_data", tmp_path / READER_NAME)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return type("IkennaBrk", (module.SignalData,), {"KEY": KEY, "LIVE_URL": "https://example.com/BRK_B.csv"})


@pytest.fixture
def config(lean: ModuleType) -> Any:
    return lean.SubscriptionDataConfig(symbol="BRK_B.IkennaBrk")


def expected(count: int) -> list[str]:
    """Ids of the symbol's accepted signals, in order."""
    sound = [d for d in log_of(count) if d.verdict == "accepted" and d.number not in poisoned(count)]
    return [d.signal_id for d in sound if f".{SYMBOL}@" in d.signal_id]


def ids(delivered: list[Any]) -> list[str]:
    return [signal.signalid for signal in delivered]


def test_a_backtest_is_given_every_signal_once(
    tmp_path: Path, sink: QuantConnectSink, signal_data: type[Any], config: Any
) -> None:
    sink.write(log_of(COUNT))
    assert ids(backtest(signal_data, config, tmp_path)) == expected(COUNT)


def test_live_polling_is_given_every_signal_once_while_the_file_grows(
    tmp_path: Path, sink: QuantConnectSink, signal_data: type[Any], config: Any
) -> None:
    sink.write(log_of(20))
    polling = RemoteFilePolling(signal_data, config, tmp_path / KEY)
    polling.poll()
    for start in range(20, COUNT, 20):
        sink.write(log_of(20, start))
        if start % 3:
            polling.poll()
    polling.poll()
    assert ids(polling.delivered) == expected(COUNT)


def test_live_polling_sees_no_signal_twice_when_a_batch_is_written_again(
    tmp_path: Path, sink: QuantConnectSink, signal_data: type[Any], config: Any
) -> None:
    cursor = tmp_path / "signals" / CLIENT / ".cursor"
    sink.write(log_of(300))
    before = cursor.read_bytes()
    sink.write(log_of(200, 300))
    polling = RemoteFilePolling(signal_data, config, tmp_path / KEY)
    polling.poll()
    cursor.write_bytes(before)  # as if the process had died before it moved its cursor
    again = QuantConnectSink(tmp_path, CLIENT, lambda letter: None)
    assert again.cursor() == 300
    polling.poll()
    again.write(log_of(100, 300))
    polling.poll()
    again.write(log_of(COUNT - 400, 400))
    polling.poll()
    assert ids(polling.delivered) == expected(COUNT)


def test_an_object_store_subscription_would_not_do_for_live(
    tmp_path: Path, sink: QuantConnectSink, signal_data: type[Any], config: Any
) -> None:
    sink.write(log_of(100))
    polling = ObjectStorePolling(signal_data, config, tmp_path / KEY)
    polling.poll()
    assert ids(polling.delivered) == expected(100)
    sink.write(log_of(100, 100))
    polling.poll()
    assert ids(polling.delivered) == expected(100), "appended rows never arrive: why the reader asks for a remote file"


def test_a_delivered_signal_says_what_was_decided(signal_data: type[Any], config: Any) -> None:
    row = "2026-11-20 14:31:00.000001,s1,momentum,BRK.B,SELL,0.25,187.25,-0.75"
    signal = signal_data().reader(config, row, datetime(2026, 11, 20), True)
    assert type(signal) is signal_data
    assert signal.symbol == config.symbol
    assert signal.time == signal.end_time == datetime(2026, 11, 20, 14, 31, 0, 1)
    assert (signal.signalid, signal.strategy, signal.side) == ("s1", "momentum", "SELL")
    assert (signal.qty, signal.limitprice, signal.value) == (0.25, 187.25, -0.75)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "time,signal_id,strategy,symbol,side,qty,price,value",
        "2026-11-20 14:31:00.000001,s1,momentum,BRK.B,SELL,0.25,",
        "2026-11-20 14:31:00.000001,s1,momentum,BRK.B,SELL,0.25,,",
        "2026-11-20 14:31:00.000001,s1,momentum,BRK.B,SELL,0.25,,-",
        "2026-11-20 14:31:00.000001,s1,momentum,BRK.B,SELL,0.25,,-0",
        "2026-11-20 14:31:00.000001,s1,momentum,BRK.B,SELL,0.25,,1",
        "2026-11-20 14:31:00.000001,s1,momentum,BRK.B,HOLD,0.25,,1",
        "2026-11-20,s1,momentum,BRK.B,BUY,0.25,,1",
        "2026-11-20 14:31:00.000001,s1,momentum,BRK.B,BUY,0.25,,1,more",
    ],
)
def test_a_line_that_is_no_whole_signal_is_skipped(line: str, signal_data: type[Any], config: Any) -> None:
    assert signal_data().reader(config, line, datetime(2026, 11, 20), True) is None


def test_a_subscription_without_its_key_or_address_says_so(signal_data: type[Any], config: Any) -> None:
    forgotten = type("Forgotten", signal_data.__bases__, {})
    with pytest.raises(ValueError, match=r"Forgotten\.KEY: expected signals/CLIENT/SYMBOL\.csv"):
        forgotten().get_source(config, datetime(2026, 11, 20), False)
    with pytest.raises(ValueError, match=r"Forgotten\.LIVE_URL"):
        forgotten().get_source(config, datetime(2026, 11, 20), True)


@pytest.mark.skipif(importlib.util.find_spec("QuantConnect") is None, reason="quantconnect-stubs is not installed")
def test_the_reader_fits_the_types_of_quantconnect(tmp_path: Path, sink: QuantConnectSink) -> None:
    reader = tmp_path / READER_NAME
    command = [sys.executable, "-m", "mypy", "--check-untyped-defs", "--config-file=", reader.name]
    checked = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
    reader.write_text(reader.read_text().replace("REMOTE_FILE", "REMOTE_FIL"))
    assert subprocess.run(command, cwd=tmp_path, check=False, capture_output=True).returncode == 1, (
        "or it checks nothing"
    )

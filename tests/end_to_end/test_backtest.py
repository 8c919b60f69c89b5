"""backtest: an interrupt at any moment ends it and all its processes; the next one is as if it had never been."""

import os
import signal
from decimal import Decimal
from pathlib import Path
from random import Random

import numpy as np
import pytest
from end_to_end.harness import Firm, assert_one_message, until
from end_to_end.recordings import START_NS, write_market
from worker.processes import is_alive

from strategy_runner.analytics.performance import max_drawdown
from strategy_runner.config.spec import WorkerSpec, read_spec
from strategy_runner.history.catalog import series_of
from strategy_runner.history.writer import SeriesWriter
from strategy_runner.tape.status import read_status

CLIENT = """
[accounts]
BTC-USD = { venue = "binance", account = "acme-main" }
ETH-USD = { venue = "binance", account = "acme-main" }

[[strategies]]
id = "slow"
strategy = "slow"
symbols = ["BTC-USD", "ETH-USD"]
timeframe = "1s"
params = { steps = STEPS }
"""
SLOW = '''
"""Buys and closes by turns, and takes its time."""

from strategy_runner.model.event import Trade
from strategy_runner.strategies.interface import Inputs, Params, Strategy


class SlowParams(Params, frozen=True):
    steps: int = 0


class Slow(Strategy):
    Params = SlowParams
    inputs = Inputs(trades=True)

    def on_trade(self, trade: Trade) -> None:
        for _ in range(self.params.steps):
            pass
        if self.position:
            self.close("held for one trade")
        else:
            self.buy("flat")
'''


@pytest.fixture
def slow_firm(firm: Firm) -> Firm:
    firm.write("clients/acme/client.toml", CLIENT.replace("STEPS", "1_000_000"))
    firm.write("clients/acme/strategies/slow.py", SLOW)
    for seed, symbol in enumerate(("BTC-USD", "ETH-USD")):
        write_market(firm.root / "history", symbol, seed=seed, seconds=400, per_second=5)
    return firm


@pytest.mark.parametrize(
    "number, code, words", [(signal.SIGINT, 130, "interrupted"), (signal.SIGKILL, -signal.SIGKILL, "")]
)
def test_an_interrupted_backtest_leaves_no_process_and_the_next_one_is_whole(
    slow_firm: Firm, number: signal.Signals, code: int, words: str
) -> None:
    firm = slow_firm
    arguments = ("backtest", "acme", "--history", firm.root / "history")
    running = firm.follow(*arguments)
    workers = firm.home.client_state("acme", "historical") / "workers"
    until(lambda: len(list(workers.glob("*/status"))) == 2, "both workers at work")
    pids = [pid for pid in firm.processes() if pid != running.pid]
    assert len(pids) >= 2  # more where there are cores for them
    if number == signal.SIGINT:
        os.killpg(running.pid, number)  # a terminal sends it to all of them
    else:
        os.kill(running.pid, number)
    out, err = running.communicate(timeout=30)
    assert (running.returncode, out, err.strip()) == (code, "", words)
    until(lambda: not any(map(is_alive, pids)), "the end of its workers", patience_s=10.0)

    firm.write("clients/acme/client.toml", CLIENT.replace("STEPS", "0"))
    results = firm.run(*arguments, "-o", "json").json()
    assert [(result["records"], result["signals"]) for result in results] == [(2_000, 2_000)] * 2
    assert len(firm.bodies("acme").splitlines()) == 4_000


def test_one_run_over_a_clients_history_at_a_time(slow_firm: Firm) -> None:
    firm = slow_firm
    arguments = ("acme", "--history", firm.root / "history")
    running = firm.follow("backtest", *arguments)
    until(lambda: len(list(firm.home.client_state("acme", "historical").glob("workers/*/status"))) == 2, "workers")
    for verb in (["backtest", *arguments], ["start", *arguments, "--mode", "historical"]):
        assert_one_message(
            firm.run(*verb, code=None), 8, "acme: ", f"expected no other backtest, found it held by pid {running.pid}"
        )
    assert running.poll() is None
    os.killpg(running.pid, signal.SIGINT)
    running.communicate(timeout=30)

    firm.write("clients/acme/client.toml", 'mode = "historical"\n' + CLIENT.replace("STEPS", "1_000_000"))
    firm.run("start", *arguments, "--no-wait")
    assert_one_message(
        firm.run("backtest", *arguments, code=None), 8, "a historical run is under way under the supervisor"
    )


def test_a_worker_that_is_killed_is_told_of_with_its_signal(slow_firm: Firm) -> None:
    firm = slow_firm
    firm.write("clients/acme/client.toml", CLIENT.replace("STEPS", "100_000"))
    running = firm.follow("backtest", "acme", "--history", firm.root / "history")
    pages = firm.home.client_state("acme", "historical")
    status = until(
        lambda: next(filter(None, map(read_status, pages.glob("workers/*/status"))), None), "a worker's status"
    )
    os.kill(status.pid, signal.SIGKILL)
    _, told = running.communicate(timeout=120)
    assert running.returncode == 1
    assert "ended by SIGKILL" in told


def test_two_cores_for_each_worker_change_nothing_but_who_keeps_its_logs(slow_firm: Firm) -> None:
    firm = slow_firm
    firm.write("clients/acme/client.toml", 'routes = ["oms"]\n' + CLIENT.replace("STEPS", "0"))
    specs = firm.home.client_state("acme", "historical") / "specs"
    left = {}
    for cores, has_spare in ((4, True), (3, False)):
        firm.run("backtest", "acme", "--history", firm.root / "history", "--parallel", cores)
        spec = read_spec(specs / "slow.BTC-USD.json")
        assert isinstance(spec, WorkerSpec)
        assert spec.spare_core is has_spare
        left[cores] = firm.bodies("acme"), (Path(spec.folder) / "fills.log").read_bytes()
    assert left[4] == left[3]
    assert len(left[4][0].splitlines()) == 4_000


def test_a_window_and_symbols_bound_what_is_read(firm: Firm, tmp_path: Path) -> None:
    firm.write("clients/acme/client.toml", CLIENT.replace("STEPS", "0"))
    firm.write("clients/acme/strategies/slow.py", SLOW)
    for seed, symbol in enumerate(("BTC-USD", "ETH-USD")):
        write_market(tmp_path, symbol, seed=seed, seconds=400, per_second=5)
    window = ("--from", "2026-01-05T00:01:00Z", "--to", "2026-01-05T00:03:00Z")
    ran = firm.run("backtest", "acme", "--history", tmp_path, *window, "--symbols", "ETH-USD", "--parallel", 1)
    signals = firm.run("signals", "acme", "-o", "json").objects()
    assert {row["symbol"] for row in signals} == {"ETH-USD"}
    seconds = [(row["event_ns"] - START_NS) / 1e9 for row in signals]
    assert 500 < len(seconds) < 700 and min(seconds) >= 60.0 and max(seconds) < 180.0
    assert ran.lines[0].split() == ["worker", "records", "signals", "refused", "seconds", "records/s", "taken"]
    assert any(line.startswith("ETH-USD/trade") and "kept" in line for line in ran.lines)
    for said in ("ETH-UDS", "BTC-USD,ETH-UDS"):
        ran = firm.run("backtest", "acme", "--history", tmp_path, "--symbols", said, code=None)
        words = "--symbols: expected some of BTC-USD, ETH-USD, found ETH-UDS; did you mean ETH-USD?"
        assert_one_message(ran, 2, words)
    ran = firm.run("backtest", "acme", "--history", tmp_path, "--from", "2030-01-01", "--symbols", "ETH-USD")
    words = "no record came of its history: ETH-USD/trade has 0 rows in the period asked for"
    assert ran.err.splitlines()[0] == f"warning: acme:slow.ETH-USD: {words}"
    assert_one_message(firm.run("backtest", "acme", "--history", "nope", code=None), 2, "--history: expected a folder")


def test_a_backtest_leaves_no_socket_that_others_may_enter(firm: Firm, tmp_path: Path) -> None:
    firm.write("clients/acme/client.toml", CLIENT.replace("STEPS", "0"))
    firm.write("clients/acme/strategies/slow.py", SLOW)
    write_market(tmp_path, "ETH-USD", seed=1, seconds=10, per_second=5)
    before = os.umask(0o022)  # as most shells have it
    try:
        firm.run("backtest", "acme", "--history", tmp_path, "--symbols", "ETH-USD")
    finally:
        os.umask(before)
    found = [one for one in firm.run("doctor", "-o", "json", code=None).json() if one["check"] == "permissions"]
    assert [one["level"] for one in found] == ["ok"], found


CROSSOVER = """mode = "mock"
routes = ["oms"]
accounts = { BTC-USD = { venue = "v", account = "a" } }

[[strategies]]
id = "cross"
strategy = "moving_average_crossover"
symbols = ["BTC-USD"]
timeframe = "1m"
params = { fast = 3, slow = 8 }
"""


def test_bars_taken_at_once_and_verified_are_the_same_signals_and_the_result_says_how(
    firm: Firm, tmp_path: Path
) -> None:
    firm.write("clients/acme/client.toml", CROSSOVER)
    luck, closes = Random(1), [100.0]
    for _ in range(1_500):
        closes.append(round(closes[-1] + luck.gauss(0, 0.2), 2))
    columns = [closes[:-1], [price + 1 for price in closes[1:]], [price - 2 for price in closes[1:]], closes[1:]]
    with SeriesWriter(series_of(tmp_path, "bars_1m", "BTC-USD")) as writer:
        ts = START_NS + 60_000_000_000 * np.arange(1_500)
        writer.append(ts, [np.array(column) for column in (*columns, [1.0] * 1_500)])
        writer.commit()
    arguments = ("backtest", "acme", "--history", tmp_path, "-o", "json")
    said = []
    for words, taken in (
        ((), "one by one"),
        (("--vectorised",), "bars at once, 1500 checked"),
        (("--verify",), "bars at once, 1500 checked"),
    ):
        (result,) = firm.run(*arguments, *words).json()
        assert (result["records"], result["way"]) == (1_500, taken)
        said.append(firm.bodies("acme"))
    assert len(said[0].splitlines()) > 50
    assert said[0] == said[1] == said[2]


def test_a_strategy_that_raises_on_a_record_names_the_record_and_the_log(firm: Firm, tmp_path: Path) -> None:
    raising = SLOW.replace("        for _ in", "        1 / self.params.steps\n        for _ in")
    firm.write("clients/acme/client.toml", CLIENT.replace("STEPS", "0").replace('"BTC-USD", ', ""))
    firm.write("clients/acme/strategies/slow.py", raising)
    write_market(tmp_path, "ETH-USD", seed=1, seconds=10, per_second=5)
    line = 1 + raising.splitlines().index("        1 / self.params.steps")
    what = f"ETH-USD/trade ordinal 0: ZeroDivisionError: division by zero at slow.py:{line} (record: Trade("
    for _ in range(2):  # of this run: the log keeps those before it too
        first, second, *own = firm.run("backtest", "acme", "--history", tmp_path, code=1).err.splitlines()
        assert first.startswith(f"error: acme:slow.ETH-USD: {what}")
        assert second == f"last lines of {firm.home.log('acme:slow.ETH-USD')}:"
        assert len(own) == 1 and what in own[0]


def test_what_workers_with_logs_of_their_own_did_is_reported_in_the_order_in_which_it_happened(firm: Firm) -> None:
    """One symbol falls and one rises, and their trades end by turns: the losses do not all come first."""
    accounts = 'accounts = { BTC-USD = { venue = "v", account = "a" }, ETH-USD = { venue = "v", account = "a" } }'
    client = CLIENT[CLIENT.index("[[strategies]]") :].replace("STEPS", "0")
    firm.write("clients/acme/client.toml", f'routes = ["oms"]\n{accounts}\n{client}')
    firm.write("clients/acme/strategies/slow.py", SLOW)
    count = 200
    for turn, (symbol, step) in enumerate((("BTC-USD", -5.0), ("ETH-USD", 5.0))):
        with SeriesWriter(series_of(firm.root / "history", "trades", symbol)) as writer:
            ts = START_NS + 1_000_000_000 * (2 * np.arange(count) + turn)
            writer.append(ts, [2_000.0 + step * np.arange(count), np.full(count, 1000.0), np.zeros(count)])
            writer.commit()
    firm.run("backtest", "acme", "--history", firm.root / "history")

    fills = firm.run("fills", "acme", "-o", "json").json()
    times = [one["event_ns"] for one in fills]
    assert (
        len(fills) > 300 and times == sorted(times) and {one["symbol"] for one in fills[:4]} == {"BTC-USD", "ETH-USD"}
    )
    assert firm.run("fills", "acme", "-n", 5, "-o", "json").json() == fills[-5:]
    entries: dict[str, Decimal] = {}
    results: list[Decimal] = []  # each trade is one fill and the next of its symbol
    for one in fills:
        money = Decimal(one["price"]) * Decimal(one["quantity"]) * (1 if one["side"] == "sell" else -1) - Decimal(
            one["fee"]
        )
        if one["side"] == "buy":
            entries[one["symbol"]] = money
        else:
            results.append(entries[one["symbol"]] + money)
    for row in firm.run("report", "acme", "-o", "json").json():
        if row["level"] in ("client", "strategy"):
            assert Decimal(row["closed"]["max_drawdown"]) == max_drawdown(results)


def test_a_run_over_history_under_the_supervisor_is_begun_once_and_finished(firm: Firm) -> None:
    firm.write("clients/acme/client.toml", CLIENT.replace("STEPS", "0"))
    firm.write("clients/acme/strategies/slow.py", SLOW)
    for seed, symbol in enumerate(("BTC-USD", "ETH-USD")):
        write_market(firm.root / "history", symbol, seed=seed, seconds=20, per_second=1)
    firm.run("start", "acme", "--mode", "historical", "--history", firm.root / "history")
    ours = ("acme:router", "acme:slow.BTC-USD", "acme:slow.ETH-USD")
    until(lambda: not any(firm.pids().get(name) for name in ours), "all of them to end")
    rows = firm.status("acme")
    assert {name: (row["process_state"], row["trading_state"]) for name, row in rows.items()} == dict.fromkeys(
        ours, ("EXITED", "finished")
    )
    assert all(firm.home.log(name).read_text().count("quality of") == 1 for name in ours[1:]), "run more than once"


WORDS = """
from strategy_runner.model.event import Trade
from strategy_runner.strategies.interface import Inputs, Strategy


class Words(Strategy):
    inputs = Inputs(trades=True)

    def on_start(self):
        self.words = {"rises", "falls", "is wide", "is thin", "is late", "is early", "is calm", "is wild"}

    def on_trade(self, trade: Trade) -> None:
        self.buy(*self.words)
"""


def test_a_set_of_words_has_one_order_in_every_backtest(firm: Firm) -> None:
    client = CLIENT.replace('"slow"', '"words"').replace("params = { steps = STEPS }", "")
    firm.write("clients/acme/client.toml", client.replace(', "ETH-USD"]', "]"))
    firm.write("clients/acme/strategies/words.py", WORDS)
    write_market(firm.root / "history", "BTC-USD", seed=1, seconds=5, per_second=1)
    given = set()
    for seed in range(3):
        firm.run("backtest", "acme", "--history", firm.root / "history", environ={"PYTHONHASHSEED": str(seed)})
        given.add(firm.run("signals", "acme", "--body").out)
    assert len(given) == 1

"""Trading on paper, through the real daemon: signals become orders, fills, positions and profit, and come back to the workers.

At the end of a run everything is laid side by side: what the workers asked for, what the OMS filled, what the router counts,
what the workers were told, and what a few lines of arithmetic make of the fills alone.
"""

import random
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from itertools import chain, cycle
from pathlib import Path
from typing import Any

import pytest
from end_to_end.harness import Firm, until
from msgspec.structs import replace

from strategy_runner.model.decision import Decision
from strategy_runner.model.fill import Fill
from strategy_runner.model.names import WorkerKey
from strategy_runner.model.order import client_order_id
from strategy_runner.model.private import PrivateEntry, decode_private, encode_private
from strategy_runner.model.signal import SignalBody, decode_body
from strategy_runner.model.stream import private
from strategy_runner.monitor.checks_orders import check_orders
from strategy_runner.oms.paper_journal import PaperJournal
from strategy_runner.router.journal import DecisionReader, decision_log
from strategy_runner.tape.logs import AppendLog, read_log
from strategy_runner.tape.reader import TapeReader
from strategy_runner.tape.status import State, read_status

OPENING = Decimal(200_000)
SPEED = 100
KILLS = ("oms:paper", "acme:router", "market:feed", "worker")
KILLS_MIN = 3  # of a busy machine

# Enters on every tenth bar, leaves five bars later, and each time that it has become flat it says what it was told until then:
# a close of nothing is refused, and recorded.
ECHO = """
from strategy_runner.model.event import Bar, Fill, Position
from strategy_runner.strategies.interface import Inputs, Strategy


class Echo(Strategy):
    inputs = Inputs(bars=True)

    def on_start(self) -> None:
        self._bars, self._fills, self._bought, self._sold, self._fees = 0, 0, 0.0, 0.0, 0.0

    def on_bar(self, bar: Bar) -> None:
        self._bars += 1
        if self._bars % 10 == 0 and not self.position:
            (self.buy if self._bars % 20 else self.sell)("every tenth bar")
        elif self._bars % 10 == 5 and self.position:
            self.close("five bars later")

    def on_fill(self, fill: Fill) -> None:
        self._fills += 1
        self._bought += max(fill.size, 0.0)
        self._sold += max(-fill.size, 0.0)
        self._fees += fill.fee

    def on_position(self, position: Position) -> None:
        assert self.position == position.size
        if not position.size:
            self.close(f"told of {self._fills} fills, {self._bought:.8f} {self._sold:.8f} {self._fees:.8f}")
"""
# Waits for a price, comes nearer, gives up; its stop follows, and it leaves at a limit of its own.
PATIENT = """
from strategy_runner.model.event import Bar
from strategy_runner.strategies.interface import Inputs, Strategy


class Patient(Strategy):
    inputs = Inputs(bars=True)

    def on_start(self) -> None:
        self._bars = 0

    def on_bar(self, bar: Bar) -> None:
        step, self._bars = self._bars % 6, self._bars + 1
        if step == 0 and not self.position:
            self.buy("a little lower", limit_price=bar.close * 0.9995, trail=bar.close * 0.002)
        elif step == 2 and not self.position:
            self.modify("nearer", limit_price=bar.close * (1.001 if self._bars % 12 < 6 else 0.9999))
        elif step == 3:
            self.cancel("long enough")
        elif step == 5 and self.position:
            self.close("at a price", limit_price=bar.close * 0.9995, time_in_force="day")
"""
CLIENT = """
routes = ["oms", "quantconnect"]

[accounts]
%(accounts)s

[risk]
starting_cash = 200_000.0
max_position_notional = 400_000.0
max_order_value = 60_000.0
max_open_orders = 50

[limits]
crash_limit = 900

[paper]
latency_ms = 20
fees = { maker = 0.0002, taker = 0.0005, minimum = 0.05 }

%(paper)s
[[strategies]]
id = "echo"
strategy = "echo"
symbols = %(symbols)s
timeframe = "%(timeframe)s"
size = %(size)s

[[strategies]]
id = "patient"
strategy = "patient"
symbols = %(symbols)s
timeframe = "%(timeframe)s"
size = %(size)s

[[strategies]]
id = "cross"
strategy = "moving_average_crossover"
symbols = %(symbols)s
timeframe = "%(timeframe)s"
params = { fast = 2, slow = 5 }
size = %(size)s
stop_loss_fraction = 0.002
take_profit_fraction = 0.003
"""


@pytest.mark.parametrize("records", [9_000, pytest.param(60_000, marks=pytest.mark.slow)])
def test_a_mock_market_is_traded_through_kills_and_every_book_agrees(
    firm: Firm, luck: random.Random, records: int
) -> None:
    """Of two symbols with three records a second each: six of them are a second of the market, 600 one of ours."""
    bring_client(firm, ["BTC-USD", "ETH-USD"], timeframe="10s", size=0.5, participation=0.5)
    mock = {"SPEED": SPEED, "RECORDS": records, "TRADES_PER_S": 2, "QUOTES_PER_S": 1}
    environ = {f"STRATEGY_RUNNER__MOCK__{name}": str(value) for name, value in mock.items()}
    firm.run("start", "acme", environ=environ)
    killed: list[str] = []
    for name in cycle(KILLS):
        victim = luck.choice(workers(firm)) if name == "worker" else name
        if not is_at_work(firm, victim):
            break
        filled = len(entries(firm, "mock"))
        firm.await_new_pid(victim, firm.kill(victim))
        killed.append(victim)
        until(partial(has_news, firm, filled), "news, or the end")
    assert len(killed) >= KILLS_MIN, "the market was over too soon"
    await_end(firm, "mock")
    compare(firm, "mock", least_fills=30)
    assert firm.run("parity", "acme").code == 0
    state, book = firm.home.client_state("acme", "mock"), firm.home.oms("mock") / "acme"
    (healthy,) = check_orders(state, book, "acme")
    assert (healthy.level, healthy.found.split()[1:]) == ("ok", ["fills", "of", "acme", "whole"])
    a_fill_that_the_oms_never_made_is_found(state, book)


def test_recorded_history_at_a_pace_is_traded_on_paper(firm: Firm, recorded_data: Path) -> None:
    bring_real_market(firm, recorded_data)
    firm.run("start", "acme", "--mode", "simulation", "--history", recorded_data, "--speed", 40)
    await_end(firm, "simulation")
    compare(firm, "simulation", least_fills=30)


def test_flat_out_and_historical_runs_of_a_real_market_agree_byte_for_byte(firm: Firm, recorded_data: Path) -> None:
    bring_real_market(firm, recorded_data)
    firm.run("backtest", "acme", "--history", recorded_data)
    historical, said = holdings(firm), firm.bodies("acme")
    firm.run("start", "acme", "--mode", "simulation", "--history", recorded_data, "--speed", 0)
    assert sorted(firm.bodies("acme").splitlines()) == sorted(said.splitlines())
    assert holdings(firm) == historical
    assert {one["strategy"] for one in historical} == {"echo", "patient", "cross"}
    for one in historical:
        assert fill_log(firm, "simulation", one).read_bytes() == fill_log(firm, "historical", one).read_bytes()
    assert all(one["fills"] > 5 for one in historical)
    for one in holdings(firm):
        own = [entry.event.fill for entry in worker_entries(firm, "simulation", one) if entry.event.fill is not None]
        agrees_with_fills(one, own)


def test_one_more_client_or_symbol_on_the_paper_oms_changes_no_other_process(firm: Firm) -> None:
    bring_client(firm, ["BTC-USD"], timeframe="10s", size=0.5, participation=1.0)
    firm.run("start", "acme")
    before = firm.pids()
    firm.write(
        "clients/other/client.toml", (firm.root / "clients/acme/client.toml").read_text().replace("echo", "cross2")
    )
    firm.edit("clients/other/client.toml", 'strategy = "cross2"', 'strategy = "moving_average_crossover"')
    firm.write("clients/other/strategies/patient.py", PATIENT)
    firm.run("start", "other")
    until(lambda: entries(firm, "mock", "other"), "fills of the new client")
    assert {name: pid for name, pid in firm.pids().items() if name in before} == before
    until(lambda: entries(firm, "mock"), "fills of the old client")
    text = (
        (firm.root / "clients/acme/client.toml")
        .read_text()
        .replace('symbols = ["BTC-USD"]', 'symbols = ["BTC-USD", "ETH-USD"]')
    )
    account = 'ETH-USD = { venue = "binance", account = "acme-main" }'
    firm.write("clients/acme/client.toml", text.replace("[accounts]", f"[accounts]\n{account}"))
    firm.run("apply")
    assert {name: pid for name, pid in firm.pids().items() if name in before} == before, (
        "one more symbol restarted others"
    )
    until(lambda: "echo.ETH-USD" in {one.worker for one in entries(firm, "mock")}, "fills of the new symbol")
    firm.run("stop", "acme")
    told = len(entries(firm, "mock", "other"))
    until(lambda: len(entries(firm, "mock", "other")) > told, "fills of who stayed")
    assert firm.pids()["oms:paper"] == before["oms:paper"]
    firm.run("stop", "other")
    assert "oms:paper" not in firm.pids()


# -- the run -------------------------------------------------------------------------------------------------------------


def bring_client(firm: Firm, symbols: list[str], *, timeframe: str, size: float, participation: float) -> None:
    accounts = "\n".join(f'{symbol} = {{ venue = "binance", account = "acme-main" }}' for symbol in symbols)
    named = "[" + ", ".join(f'"{symbol}"' for symbol in symbols) + "]"
    paper = "".join(f"[paper.symbols.{symbol}]\nparticipation = {participation}\n\n" for symbol in symbols)
    values = {
        "paper": paper,
        "accounts": accounts,
        "symbols": named,
        "timeframe": timeframe,
        "size": size,
    }
    firm.write("clients/acme/client.toml", CLIENT % values)
    firm.write("clients/acme/strategies/echo.py", ECHO)
    firm.write("clients/acme/strategies/patient.py", PATIENT)


def bring_real_market(firm: Firm, recorded_data: Path) -> None:
    """A client that trades a perpetual whose recorded trades are in the folder."""
    assert (recorded_data / "trades/BTC-USDT-PERP.parquet").is_file()
    instrument = (
        '\n[instruments.BTC-USDT-PERP]\nasset_class = "crypto"\nprice = 90_000.0\ntick_size = 0.1\nlot_size = 0.001\n'
    )
    environment = firm.root / "configs/local-dev.toml"
    environment.write_text(environment.read_text() + instrument + 'currency = "USD"\n')
    bring_client(firm, ["BTC-USDT-PERP"], timeframe="2s", size=0.2, participation=0.9)


def workers(firm: Firm) -> list[str]:
    return sorted(name for name in until(firm.pids, "processes") if "." in name)


def is_at_work(firm: Firm, victim: str) -> bool:
    """Waits until a process has run for a second: one that ends before is started again after a pause."""
    until(lambda: firm.states().get(victim) == "RUNNING", f"{victim} running")
    feed = read_status(firm.home.market("mock") / "status")
    return feed is None or feed.state is not State.FINISHED


def has_news(firm: Firm, filled: int) -> bool:
    return len(entries(firm, "mock")) > filled or has_come_back(firm, "mock")


def await_end(firm: Firm, mode: str) -> None:
    """The source has ended, and what followed from it has come back to every worker."""
    until(partial(has_come_back, firm, mode), "the end of it all", patience_s=120.0)
    firm.run("reconcile", "acme")  # what the OMS has filled last may still be on its way to the router
    until(partial(has_come_back, firm, mode), "the end of what came last", patience_s=120.0)
    firm.run("down")


def has_come_back(firm: Firm, mode: str) -> bool:
    pages = [firm.home.market(mode), *(firm.home.client_state("acme", mode) / "workers").iterdir()]
    followers = [read_status(folder / "status") for folder in pages]
    if not all(one is not None and one.state is State.FINISHED for one in followers):
        return False
    found = entries(firm, mode)
    oms = read_status(firm.home.oms(mode) / "status")
    places = {one.position for one in (*followers, oms) if one is not None}
    return len(places) == 1 and len(numbers_on_the_tape(firm, mode, found)) == len(found)


# -- the books -----------------------------------------------------------------------------------------------------------


def compare(firm: Firm, mode: str, *, least_fills: int) -> None:
    """Asks everybody, and the fills."""
    found = entries(firm, mode)
    fills = [entry.event.fill for entry in found if entry.event.fill is not None]
    assert len(fills) >= least_fills, "too few to prove anything"
    assert [entry.number for entry in found] == list(range(len(found)))
    assert len({fill.fill_id for fill in fills}) == len(fills), "a fill was counted twice"

    state = oms_state(firm, mode)
    assert list(oms_fills(firm, mode)) == fills, "the OMS has filled what the router does not know, or the other way"
    account = state.accounts["acme-main"]
    assert account.cash == {"USD": OPENING + sum(paid(fill) for fill in fills)}
    (shown,) = firm.run("accounts", "acme", "-o", "json").json()
    assert abs(Decimal(shown["cash"]["USD"]) - account.cash["USD"]) < Decimal("0.001")
    profits = [Decimal(one["profit"]) for one in holdings(firm)]
    assert abs(Decimal(shown["value"]["equity"]) - OPENING - sum(profits)) < Decimal("0.01")

    held = {(one["strategy"], one["symbol"]): one for one in holdings(firm)}
    assert held.keys() == {(fill.strategy, fill.symbol) for fill in fills}
    for (strategy, symbol), one in held.items():
        own = [fill for fill in fills if (fill.strategy, fill.symbol) == (strategy, symbol)]
        agrees_with_fills(one, own)
        theirs = account.positions[f"{strategy}/{symbol}"]
        assert (str(theirs.quantity), str(theirs.realised)) == (one["quantity"], one["realised"])

    explained_with_its_fills(firm, fills[-1])
    changed = {decode_body(one.body).action for one in decisions(firm, mode) if one.verdict == "accepted"}
    assert {"modify", "cancel"} <= changed, "no order was changed"
    asked = {client_order_id(body.id, leg) for body in accepted(firm, mode) for leg in ("entry", "exit")}
    legs = {
        entry.event.report.client_order_id for entry in found if entry.event.report and entry.leg in ("entry", "exit")
    }
    assert legs <= asked, "an order that no accepted signal asked for"
    told_of_echo(firm, mode, found)
    assert numbers_on_the_tape(firm, mode, found) == [entry.number for entry in found]


def a_fill_that_the_oms_never_made_is_found(state: Path, book: Path) -> None:
    """By the doctor, who is shown a fill log with a price of its own."""
    path = state / "fills.log"
    whole = path.read_bytes()
    told = [decode_private(payload) for payload in read_log(path)]
    at = next(index for index, entry in enumerate(told) if entry.event.fill is not None)
    forged = replace(told[at].event.fill, price=Decimal(1))
    told[at] = replace(told[at], event=replace(told[at].event, fill=forged))
    path.unlink()
    log = AppendLog(path)
    for entry in told:
        log.append(encode_private(entry))
    log.close()
    (finding,) = check_orders(state, book, "acme")
    assert (finding.level, forged.fill_id in finding.found) == ("error", True)
    path.write_bytes(whole)


def agrees_with_fills(one: dict[str, Any], fills: list[Fill]) -> None:
    """Average cost, from the fills alone, to the cent."""
    position = cost = realised = Decimal(0)
    for fill in fills:
        change = fill.quantity if fill.side == "buy" else -fill.quantity
        closed = -min(abs(change), abs(position)).copy_sign(position) if position * change < 0 else Decimal(0)
        if closed:
            part = cost * -closed / position
            realised += -closed * fill.price - part
            cost -= part
        cost += (change - closed) * fill.price
        position += change
    fees = sum((fill.fee for fill in fills), Decimal(0))
    assert Decimal(one["quantity"]) == position
    assert one["fills"] == len(fills)
    for name, expected in (("realised", realised), ("fees", fees)):
        assert abs(Decimal(one[name]) - expected) < Decimal("0.001"), (name, one, expected)
    if one["last_price"] is not None:
        gain = position * Decimal(one["last_price"]) - cost
        assert abs(Decimal(one["profit"]) - (realised + gain - fees)) < Decimal("0.001")


def told_of_echo(firm: Firm, mode: str, found: list[PrivateEntry]) -> None:
    """What the strategy says that it was told, at each moment when it was flat, is what the fill log held then.

    Both say it to the eighth digit, which is the last that fees and quantities have: of fewer, sums of floats and of decimals
    would round a tie apart.
    """
    flat: dict[str, list[str]] = {}
    counts: dict[str, list[Any]] = {}
    for entry in found:
        fill = entry.event.fill
        if entry.worker.startswith("echo.") and fill is not None:
            count = counts.setdefault(entry.worker, [0, Decimal(0), Decimal(0), Decimal(0)])
            count[0] += 1
            count[1 if fill.side == "buy" else 2] += fill.quantity
            count[3] += fill.fee
            if not entry.position.quantity:
                flat.setdefault(entry.worker, []).append(
                    f"told of {count[0]} fills, {count[1]:.8f} {count[2]:.8f} {count[3]:.8f}"
                )
    said: dict[str, list[str]] = {}
    for body in bodies(firm, mode):
        if body.strategy == "echo" and body.reasons[0].startswith("told of"):
            assert body.cause.stream == f"acme:echo.{body.symbol}/private"
            said.setdefault(f"echo.{body.symbol}", []).append(body.reasons[0])
    assert said == flat
    assert all(len(words) > 2 for words in said.values())


def explained_with_its_fills(firm: Firm, fill: Fill) -> None:
    told = dict(firm.run("explain", fill.signal_id, "-o", "json").json()["chapters"])["orders"]
    assert any(line.strip().startswith(f"{fill.quantity} at {fill.price} as {fill.liquidity}") for line in told), told
    assert any(line.endswith(f"; {fill.client_order_id}") for line in told), told
    by_order = dict(firm.run("explain", fill.client_order_id, "-o", "json").json()["chapters"])
    assert by_order["orders"] == told


def numbers_on_the_tape(firm: Firm, mode: str, found: list[PrivateEntry]) -> list[int]:
    """Of the entries that have a record, in the order of the tape."""
    reader = TapeReader(firm.home.market(mode) / "tape")
    slots: list[tuple[int, int]] = []
    try:
        for worker in {entry.worker for entry in found}:
            stream_id = reader.find(private(WorkerKey.parse(f"acme:{worker}")))
            for seq in reader.seqs(stream_id, 0, reader.entries(stream_id)) if stream_id is not None else ():
                slots.append((seq, int(reader.fields(seq, stream_id)[11])))
    finally:
        reader.close()
    return [number for _, number in sorted(slots)]


# -- where the books lie -------------------------------------------------------------------------------------------------


def entries(firm: Firm, mode: str, client: str = "acme") -> list[PrivateEntry]:
    path = firm.home.fills(client, mode)
    return [decode_private(payload) for payload in read_log(path)] if path.exists() else []


def worker_entries(firm: Firm, mode: str, one: dict[str, Any]) -> list[PrivateEntry]:
    return [decode_private(payload) for payload in read_log(fill_log(firm, mode, one))]


def fill_log(firm: Firm, mode: str, one: dict[str, Any]) -> Path:
    """Of a worker that fills its own orders."""
    return firm.home.client_state("acme", mode) / "workers" / f"{one['strategy']}.{one['symbol']}" / "fills.log"


def oms_state(firm: Firm, mode: str) -> Any:
    """The book as a restart of the OMS would find it."""
    journal = PaperJournal(firm.home.oms(mode) / "acme", "acme")
    try:
        assert not journal.unread(), "a clean stop leaves a snapshot of all"
        return journal.state
    finally:
        journal.close()


def oms_fills(firm: Firm, mode: str) -> Iterator[Fill]:
    journal = PaperJournal(firm.home.oms(mode) / "acme", "acme")
    try:
        journal.unread()
        number = 0
        while events := journal.events(number, 500):
            yield from (event.fill for event in events if event.fill is not None)
            number += len(events)
    finally:
        journal.close()


def holdings(firm: Firm) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = firm.run("positions", "acme", "-o", "json").json()
    return found


def paid(fill: Fill) -> Decimal:
    amount = fill.price * fill.quantity
    return (amount if fill.side == "sell" else -amount) - fill.fee


def accepted(firm: Firm, mode: str) -> list[SignalBody]:
    return [decode_body(one.body) for one in decisions(firm, mode) if one.verdict == "accepted"]


def bodies(firm: Firm, mode: str) -> list[SignalBody]:
    return [decode_body(one.body) for one in decisions(firm, mode)]


def decisions(firm: Firm, mode: str) -> list[Decision]:
    reader = DecisionReader(decision_log(firm.home.router("acme", mode)))
    try:
        return list(chain.from_iterable(iter(reader.read, [])))
    finally:
        reader.close()

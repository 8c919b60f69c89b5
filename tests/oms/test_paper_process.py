"""The paper OMS as a process: what it answers outlives kill -9, nothing is filled twice, nothing is missed."""

import random
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from oms.paper_build import INSTRUMENTS, NOW, SECOND, TOUCH, D, request
from worker.build import new_tape, short_folder, write_rows
from worker.processes import Processes, await_that, processes_in

from strategy_runner.bus.context import new_context
from strategy_runner.bus.doorbell import StreamDoorbell, topic_of
from strategy_runner.config.spec import MarketSpec, PaperOmsSpec, write_spec
from strategy_runner.model.event import Trade
from strategy_runner.model.order import OmsEvent, OrderChange, OrderState
from strategy_runner.model.record import Kind
from strategy_runner.model.stream import Stream
from strategy_runner.oms.interface import OmsUnavailable
from strategy_runner.oms.market_tail import MarketTail
from strategy_runner.oms.paper import AHEAD_NS_MAX, MARK_RECORDS
from strategy_runner.oms.paper_state import BookState, Entry, fold
from strategy_runner.oms.refusal import OmsRefused
from strategy_runner.oms.zeromq import ZeroMqOms
from strategy_runner.tape.logs import read_log
from strategy_runner.tape.reader import TapeReader
from strategy_runner.tape.status import State, read_status

_T = TypeVar("_T")


class Market:
    """A tape that the test writes, the OMS beside it, and clients' ways in."""

    def __init__(self, folder: Path, processes: Processes, clients: tuple[str, ...] = ("acme",)) -> None:
        self.folder, self._processes = folder, processes
        self.tape = new_tape(folder)
        self.context = new_context()
        self.bell = StreamDoorbell(f"ipc://{folder}/bell.sock")
        self.spec = PaperOmsSpec(
            mode="mock",
            endpoints={client: f"ipc://{folder}/{client}.sock" for client in clients},
            instruments=INSTRUMENTS,
            fills=TOUCH,
            fills_by_symbol={},
            opening={"acme": {"main": {"USD": D(1000)}}},
            market=MarketSpec(tape=f"{folder}/tape", doorbell=f"ipc://{folder}/bell.sock", frames=""),
            folder=str(folder / "oms"),
            log="",
            log_level="info",
        )
        self.rows: list[tuple[str, int, tuple[float, ...]]] = []
        self.open: list[ZeroMqOms] = []
        self.process = self.start()

    def start(self) -> Any:
        self.process = self._processes.start("oms", self.spec)
        return self.process

    def way_in(self, client: str = "acme") -> ZeroMqOms:
        self.open.append(ZeroMqOms(self.context, client, f"ipc://{self.folder}/{client}.sock", timeout_s=1.0))
        return self.open[-1]

    def trade(self, *prices: float) -> None:
        rows = [
            ("X/trade", NOW + (len(self.rows) + number) * SECOND, (price, 5.0, 1.0))
            for number, price in enumerate(prices)
        ]
        self.rows += rows
        write_rows(self.tape, rows)
        self.bell.ring(topic_of("X/trade"), len(self.rows))

    def caught_up(self) -> bool:
        status = read_status(Path(self.spec.folder) / "status")
        return (
            status is not None
            and status.pid == self.process.pid  # a killed one leaves its last words
            and (status.state, status.position) == (State.FOLLOWING, len(self.rows))
        )

    def journal(self, client: str = "acme") -> list[Entry]:
        path = Path(self.spec.folder) / client / "orders.log"
        return [msgspec.msgpack.decode(payload, type=Entry) for payload in read_log(path)]

    def close(self) -> None:
        for oms in self.open:
            oms.close()
        self.bell.close()


@pytest.fixture
def market() -> Iterator[Market]:
    with market_of("acme", "umbrella") as made:
        yield made


@contextmanager
def market_of(*clients: str) -> Iterator[Market]:
    with short_folder() as folder, processes_in(folder) as processes:
        made = Market(folder, processes, clients)
        try:
            yield made
        finally:
            print(processes.output("oms")[-4_000:])  # shown when the test fails
            made.close()


def insist(ask: Callable[[], _T]) -> _T:
    """Asks until there is an answer, as a router does: ids come from the asker, so asking again is harmless."""
    found: list[_T] = []

    def answered() -> bool:
        try:
            found.append(ask())
        except OmsUnavailable:
            return False
        except OmsRefused as refused:
            assert refused.code == "no_session", refused
            return False
        return True

    await_that(answered, "an answer of the OMS")
    return found[0]


def every_event(oms: ZeroMqOms) -> list[OmsEvent]:
    found: list[OmsEvent] = []
    while following := insist(partial(oms.events, len(found), 100)):
        found += following
    return found


def test_the_first_records_of_a_stream_are_not_passed_over(market: Market) -> None:
    """However soon they come after the OMS last looked for streams: here there is none yet when it watches the symbol."""
    tail = MarketTail(TapeReader(Path(market.spec.market.tape)), 0)
    tail.watch({"X"})
    market.trade(100, 103)
    assert [event.price for _, event in tail.gather() if isinstance(event, Trade)] == [100, 103]
    assert tail.streams == {"X/trade"}


def test_a_stream_that_comes_while_it_is_looked_for_is_not_passed_over(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = TapeReader(Path(market.spec.market.tape))
    tail, find = MarketTail(reader, 0), reader.find

    def find_late(stream: Stream) -> int | None:
        if stream.kind is Kind.FUNDING and not market.rows:
            market.trade(100, 103)
        return find(stream)

    monkeypatch.setattr(reader, "find", find_late)
    tail.watch({"X"})
    assert [event.price for _, event in tail.gather() if isinstance(event, Trade)] == [100, 103]


def test_an_order_goes_in_and_its_fill_comes_out(market: Market) -> None:
    oms = market.way_in()
    assert insist(lambda: oms.submit([request(event_ns=0)]))[0].state is OrderState.ACKNOWLEDGED
    market.trade(100.5)
    await_that(lambda: len(every_event(oms)) == 2, "an acknowledgement and a fill")
    acknowledged, filled = every_event(oms)
    assert (acknowledged.seq, acknowledged.number, filled.seq, filled.number) == (-1, 0, 0, 1)
    assert filled.fill is not None and (filled.fill.price, filled.fill.quantity) == (D("100.5"), 1)
    assert [(held.symbol, held.quantity) for held in oms.positions()] == [("X", 1)]
    assert oms.open_orders() == []


def test_clients_do_not_see_each_other(market: Market) -> None:
    one, other = market.way_in(), market.way_in("umbrella")
    insist(lambda: one.submit([request(event_ns=0, type="limit", limit_price=90)]))
    assert insist(lambda: other.query(["o"])) == [None]
    assert other.cancel("o").reason == "unknown_order"
    assert other.open_orders() == [] and every_event(other) == []
    assert [report.client_order_id for report in one.open_orders()] == ["o"]


def test_an_order_far_ahead_of_the_tape_is_refused_and_moves_nobodys_time(market: Market) -> None:
    """It was taken, and from then on every event of its client was of that time; or it ended the OMS of all."""
    one, other = market.way_in(), market.way_in("umbrella")
    market.trade(100)
    await_that(market.caught_up, "a first trade, which says what time it is")
    assert insist(one.open_orders) == []
    ahead_ns = NOW + AHEAD_NS_MAX
    for event_ns in (ahead_ns + 1, 2**63 - 1, 2**64 - 1):
        with pytest.raises(OmsRefused, match=r"malformed: .*orders\[1\]\.event_ns: expected"):
            one.submit([request("a", event_ns=NOW), request("b", event_ns=event_ns)])
    assert insist(lambda: one.query(["a", "b"])) == [None, None]
    assert insist(other.open_orders) == [] and market.process.poll() is None
    insist(lambda: one.submit([request("c", event_ns=NOW)]))
    one.cancel("c")
    await_that(lambda: [event.event_ns for event in every_event(one)] == [NOW, NOW], "two events of the tape's time")
    assert insist(lambda: one.submit([request("d", event_ns=ahead_ns)]))[0].state is OrderState.ACKNOWLEDGED


def test_nothing_is_filled_on_a_record_that_a_power_cut_could_take(market: Market) -> None:
    oms = market.way_in()
    insist(lambda: oms.submit([request(event_ns=0)]))
    write_rows(market.tape, [("X/trade", NOW, (100.0, 5.0, 1.0))], durable=False)
    market.bell.ring(topic_of("X/trade"), 0)
    status = Path(market.spec.folder) / "status"
    beats = {read_status(status).beat_ns}
    await_that(
        lambda: beats.add(read_status(status).beat_ns) or len(beats) > 20, "twenty turns with the record in sight"
    )
    assert len(every_event(oms)) == 1
    market.tape.make_durable()
    await_that(lambda: len(every_event(oms)) == 2, "the fill, now that the record is durable")


def test_it_stands_after_a_clean_stop_where_it_stood_before(market: Market) -> None:
    oms = market.way_in()
    insist(
        lambda: oms.submit(
            [request("a", event_ns=0), request("b", event_ns=0, side="sell", type="stop", stop_price=90, trail=2)]
        )
    )
    market.trade(100, 103, 102)
    await_that(market.caught_up, "three trades read")
    await_that(lambda: len(every_event(oms)) == 3, "the fill of the first, which is told once it is on the disk")
    before, open_orders = every_event(oms), oms.open_orders()
    market.process.terminate()
    assert market.process.wait(20) == 0
    market.start()
    assert insist(oms.open_orders) == open_orders
    assert every_event(oms) == before
    market.trade(101)
    await_that(lambda: len(every_event(oms)) == len(before) + 1, "the trailing stop, which remembers 103")
    fill = every_event(oms)[-1].fill
    assert fill is not None and (fill.client_order_id, fill.price) == ("b", 101)


def test_killed_behind_a_long_tape_it_reads_little_of_it_again(market: Market) -> None:
    """An order that is open for days meets every record of its symbol, to no effect."""
    oms = market.way_in()
    market.trade(100)
    await_that(market.caught_up, "a first trade, so that there is a stream")
    insist(lambda: oms.submit([request(event_ns=0, side="sell", type="stop", stop_price=90, trail=2)]))
    market.trade(100, 103, *[102.0] * (MARK_RECORDS * 5 // 4))
    await_that(market.caught_up, "all trades read")
    market.process.kill()
    market.process.wait(20)
    market.start()
    status = Path(market.spec.folder) / "status"
    await_that(market.caught_up, "the new process has caught up")
    assert 0 < read_status(status).records <= MARK_RECORDS
    market.trade(101)
    await_that(lambda: len(every_event(oms)) == 2, "the trailing stop, which remembers 103")
    fill = every_event(oms)[-1].fill
    assert fill is not None and fill.price == 101


@pytest.mark.parametrize("change", [{"multiplier": D(10)}, {"currency": "EUR"}])
def test_what_was_filled_is_counted_with_the_instrument_of_then_also_after_a_restart(
    market: Market, change: dict[str, Any]
) -> None:
    """Another cost of what is held, and other cash, once the configuration said something else."""
    oms = market.way_in()
    insist(lambda: oms.submit([request("a", event_ns=0)]))
    market.trade(100)
    await_that(lambda: len(every_event(oms)) == 2, "the fill")
    before = insist(oms.positions)
    assert [held.cost for held in before] == [100]
    changed = {**INSTRUMENTS, "X": msgspec.structs.replace(INSTRUMENTS["X"], **change)}
    market.spec = msgspec.structs.replace(market.spec, instruments=changed)
    for _ in range(2):
        market.process.kill()
        market.process.wait(20)
        market.start()
        assert insist(oms.positions) == before
    insist(lambda: oms.submit([request("b", event_ns=0)]))
    market.trade(200)
    await_that(lambda: len(every_event(oms)) == 4, "the second fill, which the new instrument counts")
    held = insist(oms.positions)
    assert [one.cost for one in held] == [100 + 200 * changed["X"].multiplier]
    market.process.kill()
    market.process.wait(20)
    market.start()
    assert insist(oms.positions) == held
    state = BookState(client="acme")
    for entry in market.journal():
        fold(state, entry, {})
    paid = {"USD": D(900), "EUR": D(-200)} if "currency" in change else {"USD": D(900) - 2_000}
    assert state.accounts["main"].cash == paid


def test_a_damaged_snapshot_costs_nothing_but_time(market: Market) -> None:
    oms = market.way_in()
    insist(lambda: oms.submit([request(event_ns=0)]))
    market.trade(100)
    await_that(lambda: len(every_event(oms)) == 2, "the fill")
    before = every_event(oms)
    market.process.terminate()
    market.process.wait(20)
    snapshot = Path(market.spec.folder) / "acme" / "book"
    snapshot.write_bytes(snapshot.read_bytes()[:-1])
    market.start()
    assert insist(lambda: every_event(oms)) == before
    assert [held.quantity for held in insist(oms.positions)] == [1]


def test_a_book_of_another_tape_is_not_gone_on_with(market: Market) -> None:
    """Else nothing would be filled until the new tape is as long as the old one was."""
    oms = market.way_in()
    insist(lambda: oms.submit([request(event_ns=0)]))
    market.trade(100, 101)
    await_that(market.caught_up, "two trades read")
    market.process.terminate()
    market.process.wait(20)
    market.tape.close()
    shutil.rmtree(market.folder / "tape")
    market.tape = new_tape(market.folder)
    assert market.start().wait(20) == 1
    status = read_status(Path(market.spec.folder) / "status")
    assert status is not None and "found one that has read 2, of another tape" in status.last_error


def test_a_new_client_is_served_without_a_restart(market: Market) -> None:
    insist(market.way_in().open_orders)
    endpoints = {**market.spec.endpoints, "initech": f"ipc://{market.folder}/initech.sock"}
    write_spec(market.folder / "oms.json", msgspec.structs.replace(market.spec, endpoints=endpoints))
    oms = market.way_in("initech")
    assert insist(lambda: oms.submit([request(client="initech", event_ns=0)]))[0].state is OrderState.ACKNOWLEDGED
    assert market.process.poll() is None


@pytest.mark.parametrize("kills", [3, pytest.param(40, marks=pytest.mark.slow)])
def test_killed_again_and_again_it_loses_nothing_and_doubles_nothing(kills: int) -> None:
    luck = random.Random(kills)
    with market_of("acme") as market:
        oms, sent, price = market.way_in(), 0, 100.0
        insist(oms.open_orders)
        for _ in range(kills):
            timer = threading.Timer(luck.uniform(0.0, 0.12), market.process.kill)
            timer.start()
            killed = market.process
            while killed.poll() is None:
                orders = [
                    request(f"m{sent}", event_ns=0, side=luck.choice(["buy", "sell"])),
                    request(f"l{sent}", event_ns=0, type="limit", limit_price=round(price - 1)),
                ]
                sent += 1
                try:
                    oms.submit(orders)
                    oms.modify(OrderChange(client_order_id=f"l{luck.randrange(sent)}", quantity=D(2)))
                    oms.cancel(f"l{luck.randrange(sent)}")
                except (OmsUnavailable, OmsRefused):
                    killed.wait(20)
                price = round(price + luck.gauss(0, 0.5), 2)
                market.trade(price, price + 0.01)
            timer.join()
            killed.wait(20)
            market.start()
            assert all(insist(lambda: oms.submit(orders)))  # noqa: B023  sent again: it may have been taken or not
        market.trade(*[price] * 3)
        await_that(market.caught_up, "the whole tape read")
        written = sum(len(entry.events) for entry in market.journal())
        await_that(lambda: len(every_event(oms)) == written, "every event of the journal told")
        events = every_event(oms)
        assert events == [event for entry in market.journal() for event in entry.events]
        check_all(market, events, sent)
        check_book(market, oms, events)


def check_all(market: Market, events: list[OmsEvent], sent: int) -> None:
    """Each market order was taken once, and filled once, at the first trade after it was taken."""
    assert [event.number for event in events] == list(range(len(events)))
    taken = {e.report.client_order_id: e for e in events if e.kind == "acknowledged" and e.report is not None}
    assert sum(event.kind == "acknowledged" for event in events) == len(taken)
    fills = [event for event in events if event.fill is not None]
    assert len({event.fill.fill_id for event in fills if event.fill}) == len(fills)
    filled = {event.fill.client_order_id: event for event in fills if event.fill is not None}
    market_orders = [order_id for order_id in taken if order_id.startswith("m")]
    assert len(market_orders) > 0 and len(market_orders) <= sent
    for order_id in market_orders:
        fill = filled[order_id].fill
        assert filled[order_id].seq == taken[order_id].seq + 1, "the first trade that came after it was taken"
        assert fill is not None and float(fill.price) == market.rows[filled[order_id].seq][2][0]


def check_book(market: Market, oms: ZeroMqOms, events: list[OmsEvent]) -> None:
    """Positions and cash are what the told fills say, and what a fold of the journal says."""
    state = BookState(client="acme")
    for entry in market.journal():
        fold(state, entry, INSTRUMENTS)
    account = state.accounts["main"]
    assert list(account.positions.values()) == insist(oms.positions)
    quantity, cash = D(0), D(1000)
    for event in events:
        if event.fill is not None:
            change = event.fill.quantity if event.fill.side == "buy" else -event.fill.quantity
            quantity, cash = quantity + change, cash - change * event.fill.price
    assert (account.positions["swing/X"].quantity, account.cash["USD"]) == (quantity, cash)

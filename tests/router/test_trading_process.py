"""A router process and a paper OMS process, killed again and again: nothing is ordered twice, no fill is lost or told twice."""

import random
import signal
from decimal import Decimal
from pathlib import Path

import msgspec
from oms.paper_build import TOUCH
from router.desk import CLIENT, Talker, decisions_in
from router.trade import D, trading_spec
from worker.build import START_NS, new_tape, write_rows
from worker.processes import Processes, await_that

from strategy_runner.bus.doorbell import StreamDoorbell, topic_of
from strategy_runner.config.spec import MarketSpec, PaperOmsSpec
from strategy_runner.model.order import FINAL_STATES
from strategy_runner.oms.paper_state import BookState, Entry, fold
from strategy_runner.router.order_book import OrderBook
from strategy_runner.router.order_book import fold as fold_order
from strategy_runner.router.order_journal import order_log, read_fills, read_orders
from strategy_runner.router.risk_record import RiskRecord
from strategy_runner.tape.logs import AppendLog, read_log
from strategy_runner.tape.status import State, read_status

WORKERS = ("talk.X", "calm.Y")
KILLS = 4
ROUND_SIGNALS = 6


def paper_state(root: Path, instruments: dict[str, object]) -> BookState:
    state = BookState(client=CLIENT)
    for payload in read_log(root / "oms" / CLIENT / "orders.log"):
        fold(state, msgspec.msgpack.decode(payload, type=Entry), instruments)  # type: ignore[arg-type]
    return state


def test_killed_at_any_moment_router_and_oms_agree_on_every_order_fill_and_position(
    root: Path, processes: Processes
) -> None:
    tape, bell = new_tape(root), StreamDoorbell(f"ipc://{root}/bell.sock")
    market = MarketSpec(tape=str(root / "tape"), doorbell=f"ipc://{root}/bell.sock", frames="")
    spec = msgspec.structs.replace(trading_spec(root, WORKERS, endpoint=f"ipc://{root}/oms.sock"), market=market)
    oms_spec = PaperOmsSpec(
        mode="mock",
        endpoints={CLIENT: f"ipc://{root}/oms.sock"},
        instruments=dict(spec.instruments),
        fills=TOUCH,
        fills_by_symbol={},
        opening={CLIENT: {"main": {"USD": Decimal(100_000)}}},
        market=market,
        folder=str(root / "oms"),
        log="",
        log_level="info",
    )
    luck, talkers = random.Random(5), {worker: Talker(root, worker) for worker in WORKERS}
    seconds = 0

    def trade() -> None:
        nonlocal seconds
        for symbol in ("X", "Y"):
            seconds += 1
            row = (f"{symbol}/trade", START_NS + seconds * 1_000_000_000, (luck.uniform(95.0, 105.0), 50.0, 1.0))
            write_rows(tape, [(row[0], row[1], tuple(round(value, 2) for value in row[2]))])
            bell.ring(topic_of(row[0]), seconds)

    trade()
    running = {"oms": processes.start("oms", oms_spec), "router": processes.start("router", spec)}
    said = 0
    for _ in range(KILLS):
        for _ in range(ROUND_SIGNALS):
            worker = luck.choice(WORKERS)
            levels = {"stop_loss": 90.0, "take_profit": 104.0} if luck.random() < 0.5 else {}
            talkers[worker].say(
                size=1.0, action="buy" if luck.random() < 0.7 else "sell", **(levels if said % 2 else {})
            )
            said += 1
            trade()
        name = luck.choice(sorted(running))
        until = luck.randrange(said - ROUND_SIGNALS, said + 1)
        await_that(lambda until=until: len(decisions_in(root)) >= until, f"{until} decisions")  # type: ignore[misc]
        running[name].send_signal(signal.SIGKILL)
        running[name].wait()
        running[name] = processes.start(name, oms_spec if name == "oms" else spec)

    def agree() -> bool:
        trade()
        status = read_status(root / "router" / "status")
        at_work = (running["router"].pid, State.FOLLOWING)  # a killed one leaves its last words
        if status is None or (status.pid, status.state) != at_work or len(decisions_in(root)) < said:
            return False
        book, state = order_book(), paper_state(root, dict(spec.instruments))
        return book.next_event == state.number and all(one.order.is_known for one in book.orders.values())

    def order_book() -> OrderBook:
        book = OrderBook(client=CLIENT)
        for _, entry in read_orders(order_log(root / "router")):
            fold_order(book, entry, spec.instruments)
        return book

    await_that(agree, "router and OMS at one")
    running["router"].terminate()
    assert running["router"].wait(20) == 0, processes.output("router")
    running["oms"].terminate()
    assert running["oms"].wait(20) == 0
    bell.close()
    book, state = order_book(), paper_state(root, dict(spec.instruments))
    ordered = [order.client_order_id for decision in decisions_in(root) for order in decision.orders]
    assert len(ordered) == len(set(ordered)) >= said // 2
    assert {one.order.id for one in state.orders.values() if not one.order.is_final} <= book.orders.keys()
    fills = [entry.event.fill for entry in read_fills(root / "fills.log") if entry.event.fill is not None]
    assert len({fill.fill_id for fill in fills}) == len(fills)
    held = {place: one for account in state.accounts.values() for place, one in account.positions.items()}
    assert {place: one for account in book.accounts.values() for place, one in account.positions.items()} == held
    assert sum(1 for one in book.finished.values() if one.state not in FINAL_STATES) == 0
    record = RiskRecord(root / "router", CLIENT, spec.mode)
    assert {key: one.quantity for key, one in record.state.books.items()} == {key: held[key].quantity for key in held}
    gained = sum((one.realised for one in record.state.books.values()), D(0))
    booked = sum((one.realised - one.fees + one.funding for one in held.values()), D(0))
    assert round(gained, 8) == round(booked, 8)  # an average of fills may have no end
    record.close()


def test_a_router_that_cannot_begin_says_why_on_its_page(root: Path, processes: Processes) -> None:
    market = MarketSpec(tape=str(root / "tape"), doorbell=f"ipc://{root}/bell.sock", frames="")
    spec = msgspec.structs.replace(trading_spec(root, WORKERS, endpoint=f"ipc://{root}/oms.sock"), market=market)
    new_tape(root)
    damaged = Path(spec.folder) / "breakers.log"
    log = AppendLog(damaged)
    log.append_many((b"one" * 20, b"two" * 20))
    log.close()
    raw = damaged.read_bytes()
    damaged.write_bytes(raw.replace(b"oneone", b"nonono", 1))
    assert processes.start("router", spec).wait(60) != 0
    status = read_status(Path(spec.folder) / "status")
    assert status is not None and status.state is State.FAILED
    assert str(damaged) in status.last_error

"""Feedback: fills and positions reach the strategy through the tape, its own alone, and a restart repeats what came of them."""

import random
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from worker.build import (
    START_NS,
    Followers,
    bodies_on_disk,
    new_tape,
    random_rows,
    rerun,
    run_out,
    status_of,
    strategy,
    worker_spec,
    write_rows,
)
from worker.fill_desk import FillDesk
from worker.processes import PATIENCE_S, Processes, await_that

from strategy_runner.config.spec import (
    FeedSpec,
    MockSpec,
    ModelProviderSpec,
    PrivateSource,
    TapeSpec,
    WorkerSpec,
)
from strategy_runner.errors import CorruptRecordError, StrategyError
from strategy_runner.history.tape_run import TapeRun
from strategy_runner.model.event import Fill, OrderUpdate, Position, Trade
from strategy_runner.model.private import encode_private, slot_of
from strategy_runner.model.signal import decode_body
from strategy_runner.model.stream import Stream, private
from strategy_runner.strategies.interface import Inputs, Strategy
from strategy_runner.tape.logs import LogReader
from strategy_runner.tape.reader import TapeReader
from strategy_runner.tape.status import State, read_status
from strategy_runner.tape.writer import TapeWriter
from strategy_runner.worker.genesis import read_geneses
from strategy_runner.worker.skips import Skip, note_skip

ANSWERING = str(Path(__file__).parent / "acme" / "strategies" / "answering.py")
NAN = float("nan")
OWN = "talk.X"


def spec_in(root: Path, /, **changes: Any) -> WorkerSpec:
    chosen = {
        "streams": ("X/trade", "X/quote", "X/bar.1m"),
        "strategy_type": "answering",
        "code": ANSWERING,
        "fills": str(root / "fills.log"),
    }
    return worker_spec(root, **{**chosen, **changes})


class Diary(Strategy):
    """Keeps what it was told, with the position and the time of that moment."""

    inputs = Inputs(trades=True)

    def on_start(self) -> None:
        self.told: list[tuple[object, float, int]] = []

    def on_trade(self, trade: Trade) -> None:
        self._note(trade)

    def on_fill(self, fill: Fill) -> None:
        self._note(fill)
        self.close("filled")

    def on_position(self, position: Position) -> None:
        self._note(position)

    def on_order(self, order: OrderUpdate) -> None:
        self._note(order)

    def _note(self, event: object) -> None:
        self.told.append((event, self.position, self.now_ns))


class Market:
    """A tape with trades of X and the private records of a fill log between them, written by this process."""

    def __init__(self, folder: Path) -> None:
        self.tape: TapeWriter = new_tape(folder)
        self.desk = FillDesk(folder / "fills.log")
        self._reader = LogReader(folder / "fills.log")
        self._rows = 0

    def trade(self, price: float) -> None:
        write_rows(self.tape, [("X/trade", START_NS + self._rows * 1_000, (price, 1.0, 1.0))])
        self._rows += 1

    def record(self) -> None:
        """A record for each entry that has none, as the feed makes it."""
        at = self._reader.offset
        for following, payload in self._reader.read():
            entry = self.desk.entries[len(self.desk.entries) - 1]
            slot = slot_of(payload, at, entry.number)
            stream = self.tape.stream_id(Stream.parse(f"acme:{entry.worker}/private"))
            self.tape.append_aside(stream, entry.event.event_ns, slot)
            at = following
        self.tape.publish()
        self.tape.make_durable()


@pytest.fixture
def market(folder: Path) -> Market:
    return Market(folder)


# -- what the strategy sees --------------------------------------------------------------------------------------------


def test_a_fill_is_told_after_the_position_counts_it_and_never_sets_time_back(
    folder: Path, followers: Followers, market: Market
) -> None:
    spec = spec_in(folder, streams=("X/trade",))
    diary = strategy(Diary, spec)
    follower = followers.make(spec, diary)
    for price in (100.0, 101.0, 102.0):
        market.trade(price)
    market.desk.fill(OWN, "buy", "2", "101.5")
    market.record()
    run_out(follower)
    now_ns = START_NS + 2_000
    assert [(type(event), held, at_ns) for event, held, at_ns in diary.told[3:]] == [  # type: ignore[attr-defined]
        (Fill, 2.0, now_ns),
        (Position, 2.0, now_ns),
        (OrderUpdate, 2.0, now_ns),
    ]
    assert diary.told[3][0] == Fill("X", START_NS, "s0", 101.5, 2.0, 0.25)  # type: ignore[attr-defined]
    assert diary.told[5][0] == OrderUpdate("X", START_NS, "s0", "entry", "filled", 2.0, 2.0, "")  # type: ignore[attr-defined]


def test_a_signal_made_of_a_fill_names_the_private_record_and_its_digest(
    folder: Path, followers: Followers, market: Market
) -> None:
    spec = spec_in(folder, streams=("X/trade",))
    follower = followers.make(spec, strategy(Diary, spec))
    market.trade(100.0)
    entry = market.desk.fill(OWN, "sell", "3")
    market.record()
    run_out(follower)
    [body] = [decode_body(raw) for raw in bodies_on_disk(folder / OWN)]
    cause = body.cause
    assert (cause.stream, cause.ordinal, cause.event_ns) == ("acme:talk.X/private", 0, START_NS)
    assert cause.values == slot_of(encode_private(entry), 16, 0)
    assert (body.action, body.size, body.reasons[-1]) == ("close", 3.0, "closes:short")


def test_own_signals_move_no_position_where_fills_do(folder: Path, followers: Followers, market: Market) -> None:
    class Eager(Diary):
        def on_trade(self, trade: Trade) -> None:
            super().on_trade(trade)
            self.buy()

    spec = spec_in(folder, streams=("X/trade",))
    eager = strategy(Eager, spec)
    follower = followers.make(spec, eager)
    market.trade(100.0)
    market.trade(101.0)
    run_out(follower)
    assert [decode_body(raw).refusal for raw in bodies_on_disk(folder / OWN)] == [None, None]
    assert eager.position == 0.0
    market.desk.fill(OWN, "buy", "0.3")
    market.record()
    run_out(follower)
    assert eager.position == 0.3


def test_an_order_that_died_is_told_with_its_reason(folder: Path, followers: Followers, market: Market) -> None:
    spec = spec_in(folder, streams=("X/trade",))
    diary = strategy(Diary, spec)
    follower = followers.make(spec, diary)
    market.desk.reject(OWN, "bad_quantity")
    market.record()
    run_out(follower)
    [(told, held, _)] = diary.told  # type: ignore[attr-defined]
    assert (told.state, told.reason, told.leg, held) == ("rejected", "bad_quantity", "entry", 0.0)


# -- nobody else's -----------------------------------------------------------------------------------------------------


def test_the_entry_of_another_worker_is_refused_whatever_the_tape_says(
    folder: Path, followers: Followers, market: Market
) -> None:
    entry = market.desk.fill("other.X", "buy", "1")
    slot = slot_of(encode_private(entry), 16, 0)
    stream = market.tape.stream_id(private(spec_in(folder).key))
    market.tape.append_aside(stream, START_NS, slot)
    market.tape.publish()
    market.tape.make_durable()
    follower = followers.make(spec_in(folder))
    with pytest.raises(CorruptRecordError, match=r"expected an entry of acme:talk.X, found one of acme:other.X"):
        run_out(follower)


def test_an_entry_that_is_not_the_one_the_record_was_made_of_is_refused(
    folder: Path, followers: Followers, market: Market
) -> None:
    market.desk.fill(OWN, "buy", "1")
    market.record()
    market.desk.close()
    (folder / "fills.log").unlink()
    other = FillDesk(folder / "fills.log")
    other.fill(OWN, "buy", "7")
    follower = followers.make(spec_in(folder))
    with pytest.raises(CorruptRecordError, match="expected entry 0, found another"):
        run_out(follower)


# -- restarts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_a_worker_killed_between_fills_derives_the_same_signals_and_so_does_a_run_over_the_tape(
    folder: Path, followers: Followers, market: Market, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("strategy_runner.worker.follower.SNAPSHOT_RECORDS", 40)
    luck, spec = random.Random(seed), spec_in(folder)
    follower = followers.make(spec)
    for row in random_rows(seed, 25):
        if row[0] not in spec.streams:
            continue
        write_rows(market.tape, [row])
        if luck.random() < 0.2:
            market.desk.fill(OWN, luck.choice(("buy", "sell")), luck.choice(("1", "0.5")), f"{row[2][0]:.2f}")
            market.record()
        if luck.random() < 0.05:
            market.desk.reject(OWN, "too_many_orders")
            market.record()
        if luck.random() < 0.3:
            follower.turn()
        if luck.random() < 0.03:
            follower = followers.make(spec)  # the one before was killed
    run_out(follower)
    bodies = bodies_on_disk(folder / OWN)
    causes = {decode_body(raw).cause.stream for raw in bodies}
    assert "acme:talk.X/private" in causes
    assert len(bodies) > 30
    [genesis] = read_geneses(folder / OWN)
    assert rerun(spec, folder / "tape", genesis, market.tape.seq) == bodies


def test_new_code_begins_with_what_is_held(folder: Path, followers: Followers, market: Market) -> None:
    spec = spec_in(folder, from_start=False, streams=("X/trade",))
    run_out(followers.make(spec, strategy(Diary, spec)))
    for price in (100.0, 101.0):
        market.trade(price)
    market.desk.fill(OWN, "buy", "2")
    market.record()
    market.desk.fill(OWN, "sell", "0.5")
    market.record()
    changed = msgspec.structs.replace(spec, generation="11111111")
    diary = strategy(Diary, changed)
    run_out(followers.make(changed, diary))
    assert (diary.position, diary.told) == (1.5, [])  # type: ignore[attr-defined]
    genesis = read_geneses(folder / OWN)[-1]
    assert genesis.position == 1.5


def test_a_worker_whose_account_was_changed_knows_of_the_new_one_only(
    folder: Path, followers: Followers, market: Market
) -> None:
    old = spec_in(folder, from_start=False, streams=("X/trade",))
    market.desk.fill(OWN, "buy", "2")
    market.record()
    market.trade(100.0)
    new = msgspec.structs.replace(old, account="another", generation="11111111")
    diary = strategy(Diary, new)
    follower = followers.make(new, diary)
    market.desk.fill(OWN, "sell", "0.5")  # by an exit that was still open there
    market.record()
    run_out(follower)
    assert (diary.position, diary.told) == (0.0, [])  # type: ignore[attr-defined]
    back = msgspec.structs.replace(old, generation="22222222")
    market.desk.account = "another"
    market.desk.fill(OWN, "buy", "7")
    market.record()
    diary = strategy(Diary, back)
    run_out(followers.make(back, diary))
    assert diary.position == 1.5, "what the account held that it has again"


def test_an_operator_s_skip_of_a_fill_leaves_it_out_and_the_next_one_sets_the_position(
    folder: Path, followers: Followers, market: Market
) -> None:
    class Frail(Diary):
        def on_fill(self, fill: Fill) -> None:
            if fill.signal_id == "s0":
                raise RuntimeError("cannot bear the first")

    spec = spec_in(folder, streams=("X/trade",))
    market.desk.fill(OWN, "buy", "2")
    market.record()
    market.desk.fill(OWN, "buy", "1")
    market.record()
    with pytest.raises(StrategyError, match=r"acme:talk.X/private ordinal 0: RuntimeError: cannot bear the first"):
        run_out(followers.make(spec, strategy(Frail, spec)))
    skip = Skip(generation=spec.generation, seq=0, stream="acme:talk.X/private", ordinal=0, reason="a test", at_ns=1)
    note_skip(Path(spec.folder), skip)
    frail = strategy(Frail, spec)
    run_out(followers.make(spec, frail))
    assert frail.position == 3.0
    assert len(frail.told) == 2  # type: ignore[attr-defined]  # position and order of the second


# -- through real processes --------------------------------------------------------------------------------------------


def test_fills_reach_a_worker_process_through_the_feed_and_a_run_over_the_tape_says_the_same(
    folder: Path, processes: Processes
) -> None:
    """The desk fills each signal that the worker sends; worker and feed are killed meanwhile."""
    spec = spec_in(folder)
    spec = msgspec.structs.replace(
        spec, market=msgspec.structs.replace(spec.market, private=f"ipc://{folder}/private.sock")
    )
    feed = FeedSpec(
        mode="mock",
        streams=spec.streams,
        mock=MockSpec(
            seed=7,
            speed=300.0,
            start_ns=START_NS,
            records=4_000,
            trades_per_s=2.0,
            quotes_per_s=1.0,
            prices=(("X", 100.0),),
        ),
        replay=None,
        models=ModelProviderSpec(provider="mock", seed=1),
        tape=TapeSpec(
            segment_records=4_096, durable_interval_ms=2.0, reserve_mb=1.0, retention_hours=24.0, retention_gb=1.0
        ),
        market=spec.market,
        beat_interval_s=0.1,
        readers=(),
        folder=str(folder),
        log="",
        log_level="info",
        private=(PrivateSource(client="acme", path=spec.fills),),
    )
    running = {"feed": processes.start("feed", feed), "worker": processes.start("worker", spec)}
    desk = FillDesk(folder / "fills.log", spec.market.private)
    log, luck, killed = LogReader(folder / OWN / "signals.log"), random.Random(5), 0

    def is_over() -> bool:
        nonlocal killed
        for _, payload in log.read():
            body = decode_body(msgspec.msgpack.decode(payload)[2])
            if body.refusal is None and len(desk.entries) < 200:
                side = (
                    ("sell" if body.reasons[-1] == "closes:long" else "buy") if body.action == "close" else body.action
                )
                desk.fill(OWN, side, str(Decimal(str(body.size))), f"{body.entry_price:.2f}")
        if len(desk.entries) > 6 * (killed + 1) and killed < 4:
            name = luck.choice(("feed", "worker"))
            running[name].kill()
            running[name].wait()
            running[name] = processes.start(name, feed if name == "feed" else spec)
            killed += 1
        status = read_status(folder / OWN / "status")
        return status is not None and status.state is State.FINISHED

    try:
        deadline = time.monotonic() + 4 * PATIENCE_S  # two processes, each begun several times
        while not is_over():
            assert time.monotonic() < deadline, (
                f"expected the end of the tape, found {read_status(folder / OWN / 'status')}"
            )
            time.sleep(0.005)
        assert killed == 4
        await_that(lambda: told_of(folder, spec) == len(desk.entries), "every fill told")
    finally:
        desk.close()
    bodies = bodies_on_disk(folder / OWN)
    [genesis] = read_geneses(folder / OWN)
    run = TapeRun(spec, folder / "tape", genesis)
    assert [derived.body for derived in run.run(status_of(spec).position)] == bodies
    assert sum(decode_body(raw).cause.stream.endswith("/private") for raw in bodies) > 10


def told_of(folder: Path, spec: WorkerSpec) -> int:
    """How many private records the worker's stream holds below the place that the worker has come to."""
    reader = TapeReader(folder / "tape")
    stream_id = reader.find(private(spec.key))
    return 0 if stream_id is None else reader.first_ordinal_at(stream_id, status_of(spec).position)

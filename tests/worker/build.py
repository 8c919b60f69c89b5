"""What tests of workers, routers and backtests build: specs, tapes written by a real TapeWriter, strategies that talk."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

import msgspec

from strategy_runner.assembly import make_follower
from strategy_runner.bus.doorbell import SignalDoorbell, StreamListener
from strategy_runner.config.spec import (
    LimitsSpec,
    MarketSpec,
    ModelProviderSpec,
    ModelSpec,
    ProtectionSpec,
    WorkerSpec,
)
from strategy_runner.history.tape_run import TapeRun
from strategy_runner.model.event import Bar, Event, Prediction, Quote, Timer, Trade
from strategy_runner.model.private import PrivateEntry, decode_private
from strategy_runner.model.signal import LoggedSignal, SignalBody
from strategy_runner.model.stream import Stream
from strategy_runner.strategies.interface import Inputs, Strategy
from strategy_runner.tape.logs import read_log
from strategy_runner.tape.reader import TapeReader
from strategy_runner.tape.status import Status, StatusFile, read_status
from strategy_runner.tape.writer import TapeWriter
from strategy_runner.worker.follower import Follower
from strategy_runner.worker.genesis import Genesis
from strategy_runner.worker.machine import Machine

START_NS = 1_700_000_000_000_000_000
MINUTE_NS = 60_000_000_000
NAN = float("nan")
CHATTY = str(Path(__file__).parent / "acme" / "strategies" / "chatty.py")
STREAMS = ("X/trade", "X/quote", "X/bar.1m", "X/prediction.m1.1m", "X/prediction.m2.1m", "X/clock.1s")
MODELS = (
    ModelSpec(id="m1", confidence_threshold=0.5, lookback_window=3, weight=3.0),
    ModelSpec(id="m2", confidence_threshold=0.7, lookback_window=3, weight=1.0),
)

Row = tuple[str, int, tuple[float, ...]]


@contextmanager
def short_folder() -> Iterator[Path]:
    """A folder whose sockets have names short enough."""
    folder = Path(mkdtemp(prefix="sr", dir="/tmp"))
    try:
        yield folder
    finally:
        rmtree(folder)


def worker_spec(root: Path, /, **changes: Any) -> WorkerSpec:
    """The worker acme:talk.X, with its state in `root`/talk.X and the tape in `root`/tape."""
    spec = WorkerSpec(
        client="acme",
        strategy="talk",
        symbol="X",
        strategy_type="chatty",
        code=CHATTY,
        params={},
        timeframe="1m",
        models=(),
        extra_symbols=(),
        venue="test",
        account="acme-test",
        size=2.0,
        protection=ProtectionSpec(stop_loss_fraction=0.02),
        streams=STREAMS,
        mode="mock",
        generation="0badcafe",
        market=MarketSpec(
            tape=str(root / "tape"), doorbell=f"ipc://{root}/bell.sock", frames=f"ipc://{root}/frames.sock"
        ),
        router_doorbell=f"ipc://{root}/router.sock",
        folder=str(root / "talk.X"),
        log="",
        log_level="info",
        limits=LimitsSpec(memory_limit_mb=1024, cpu_limit=1.0),
        from_start=True,
        history=None,
        slots=str(root / "slots"),
        parallel=1,
        predictor=ModelProviderSpec(provider="mock", seed=1),
    )
    return msgspec.structs.replace(spec, **changes)


# -- records -----------------------------------------------------------------------------------------------------------


def random_rows(seed: int, minutes: int, *, per_minute: int = 8) -> list[Row]:
    """(stream, event_ns, values): minutes of all streams of X as the feed would order them."""
    luck = random.Random(seed)
    rows: list[Row] = []
    price = 100.0
    for minute in range(minutes):
        begin_ns = START_NS + minute * MINUTE_NS
        for number in range(per_minute):
            at_ns = begin_ns + number * MINUTE_NS // per_minute
            price = round(price + luck.gauss(0, 0.2), 2)
            rows += [("X/clock.1s", at_ns, ())] * (luck.random() < 0.3)
            rows += [("X/trade", at_ns, (price, luck.choice((1.0, 2.5)), luck.choice((-1.0, 1.0))))]
            rows += [("X/quote", at_ns, (price - 0.01, price + 0.01, NAN, 3.0))] * (luck.random() < 0.5)
        close_ns = begin_ns + MINUTE_NS
        rows += [("X/bar.1m", close_ns, (price, price + 1, price - 1, price, 10.0))]
        rows += [(f"X/prediction.{model}.1m", close_ns, (luck.uniform(-1, 1), luck.random())) for model in ("m1", "m2")]
    return rows


def new_tape(folder: Path, *, segment_records: int = 4096) -> TapeWriter:
    return TapeWriter(folder / "tape", segment_records=segment_records)


def write_rows(tape: TapeWriter, rows: Sequence[Row], *, durable: bool = True) -> None:
    """Appends and publishes rows."""
    for name, event_ns, values in rows:
        tape.append(tape.stream_id(Stream.parse(name)), event_ns, *(*values, *(NAN,) * (5 - len(values))))
    tape.publish()
    if durable:
        tape.make_durable()


# -- strategies --------------------------------------------------------------------------------------------------------


class Echo(Strategy):
    """Keeps what it was told, and asks to buy at each of it with `wish`."""

    inputs = Inputs(trades=True, quotes=True, bars=True, predictions=True, timer="1s")

    def on_start(self) -> None:
        self.told: list[Event] = []
        self.wish: dict[str, Any] = {}

    def on_trade(self, trade: Trade) -> None:
        self._hear(trade)

    def on_quote(self, quote: Quote) -> None:
        self._hear(quote)

    def on_bar(self, bar: Bar) -> None:
        self._hear(bar)

    def on_prediction(self, prediction: Prediction) -> None:
        self._hear(prediction)

    def on_timer(self, timer: Timer) -> None:
        self._hear(timer)

    def _hear(self, event: Event) -> None:
        self.told.append(event)
        self.buy(type(event).__name__, **self.wish)


def strategy(kind: type[Strategy], spec: WorkerSpec, **params: Any) -> Strategy:
    return kind(kind.Params(**params), symbol=spec.symbol, timeframe=spec.timeframe, seed=int(spec.generation, 16))


# -- machines ----------------------------------------------------------------------------------------------------------


class Recorded:
    """A machine without a loop, and what it recorded: (n, body, seq)."""

    def __init__(self, spec: WorkerSpec, kind: type[Strategy], **params: Any) -> None:
        self.strategy = strategy(kind, spec, **params)
        self.signals: list[tuple[int, SignalBody, int]] = []
        self.machine = Machine(spec, self.strategy, lambda n, body, seq: self.signals.append((n, body, seq)))
        self._ordinals = dict.fromkeys(spec.streams, 0)

    @property
    def bodies(self) -> list[SignalBody]:
        return [body for _, body, _ in self.signals]

    def apply(self, rows: Sequence[Row]) -> "Recorded":
        """Hands rows over as a tape would that holds them and nothing else."""
        subscriptions = {subscription.name: subscription for subscription in self.machine.subscriptions}
        for name, event_ns, values in rows:
            ordinal = self._ordinals[name]
            subscription = subscriptions[name]
            event = subscription.make(event_ns, *(*values, *(NAN,) * (5 - len(values))))
            self.machine.seq += 1
            self._ordinals[name] = ordinal + 1
            self.machine.apply(subscription, ordinal, event)
        return self


def logged(path: Path) -> list[LoggedSignal]:
    """All signals of a worker's log."""
    return [msgspec.msgpack.decode(payload, type=LoggedSignal) for payload in read_log(path)]


def rerun(spec: WorkerSpec, tape: Path, first: Genesis, last_seq: int) -> list[bytes]:
    """The canonical bodies that a worker gives from its beginning up to and including `last_seq`."""
    return [derived.body for derived in TapeRun(spec, tape, first).run(last_seq + 1)]


def fills_in(folder: Path) -> list[PrivateEntry]:
    return [decode_private(payload) for payload in read_log(folder / "fills.log")]


def bodies_on_disk(folder: Path) -> list[bytes]:
    """The canonical bytes of all signals of a worker's folder."""
    return [signal.body for signal in logged(folder / "signals.log")]


# -- followers ---------------------------------------------------------------------------------------------------------


class Followers:
    """Followers of one tape in this process, their sockets and the feed's doorbell. `close` ends them."""

    def __init__(self) -> None:
        self._made: list[Follower] = []

    def make(self, spec: WorkerSpec, given: Strategy | None = None) -> Follower:
        """As a process would that has just started. One that is dropped without `stop` was killed."""
        status = StatusFile(Path(spec.folder) / "status")
        if given is None:
            made = make_follower(spec, status)
        else:
            made = Follower(
                spec,
                given,
                reader=TapeReader(Path(spec.market.tape)),
                listener=StreamListener(spec.market.doorbell, spec.streams),
                router=SignalDoorbell(spec.router_doorbell, spec.key.folder),
                status=status,
                from_start=spec.from_start,
            )
        self._made.append(made)
        return made

    def close(self) -> None:
        for follower in self._made:
            follower.close()


def run_out(follower: Follower) -> None:
    """Turns until there is no work left."""
    while follower.turn():
        pass


def status_of(spec: WorkerSpec) -> Status:
    status = read_status(Path(spec.folder) / "status")
    assert status is not None
    return status

"""A client's desk in tests: workers that only talk, a router over their logs, and sinks in memory."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from worker.build import START_NS

from strategy_runner.bus.doorbell import SignalListener
from strategy_runner.config.spec import MarketSpec, QuantConnectSpec, RouterSpec
from strategy_runner.model.decision import Decision
from strategy_runner.model.names import WorkerKey
from strategy_runner.model.signal import Cause, SignalBody, decode_body, signal_id
from strategy_runner.router.delivery import Delivery
from strategy_runner.router.journal import DecisionReader, decision_log
from strategy_runner.router.market import Market
from strategy_runner.router.operator import Operator
from strategy_runner.router.router import Router
from strategy_runner.sinks.interface import Sink, SinkUnavailable, assert_follows
from strategy_runner.tape.status import State, Status, StatusFile, read_status
from strategy_runner.worker.outbox import Outbox

CLIENT = "acme"
GENERATION = "0badcafe"
EVERYTHING = 1 << 60


def router_spec(root: Path, workers: Sequence[str], **changes: Any) -> RouterSpec:
    spec = RouterSpec(
        client=CLIENT,
        mode="mock",
        workers=tuple(workers),
        freshness={},
        ordered=False,
        bulk=False,
        routes=("quantconnect",),
        market=MarketSpec(tape=str(root / "tape"), doorbell="", frames=""),
        doorbell=f"ipc://{root}/router.sock",
        sql=f"ipc://{root}/sql.sock",
        folder=str(root / "router"),
        workers_folder=str(root / "workers"),
        duckdb=str(root / "signals.duckdb"),
        quantconnect=QuantConnectSpec(folder=str(root / "quantconnect")),
        log="",
        log_level="info",
    )
    return msgspec.structs.replace(spec, **changes)


def body_of(worker: str, n: int, *, generation: str = GENERATION, **changes: Any) -> SignalBody:
    """Signal `n` of a worker of the client, such as talk.X."""
    strategy, _, symbol = worker.partition(".")
    body = SignalBody(
        id=signal_id(WorkerKey(CLIENT, strategy, symbol).name, generation, n),
        client=CLIENT,
        strategy=strategy,
        symbol=symbol,
        venue="test",
        timeframe="1m",
        action="buy",
        size=1.0 + n,
        entry_price=100.0,
        stop_loss=None,
        take_profit=None,
        confidence=None,
        strength=None,
        strategy_type="talk",
        models=(),
        cause=Cause(stream=f"{symbol}/trade", ordinal=n, event_ns=START_NS + n, values=(100.0,)),
        reasons=("because",),
        refusal=None,
    )
    return msgspec.structs.replace(body, **changes)


class Talker:
    """A worker that only writes its signal log and its status page."""

    def __init__(
        self, root: Path, worker: str = "talk.X", generation: str = GENERATION, *, is_observed: bool = False
    ) -> None:
        self.worker = worker
        self.path = root / "workers" / worker / "signals.log"
        self._generation = generation
        self._outbox = Outbox(self.path, generation=generation, mode="mock", is_observed=is_observed)
        self._status = StatusFile(self.path.with_name("status"))
        self._status.write()
        self.n = self._outbox.begin_after_recorded()

    def say(self, seq: int = 0, *, received_ns: int = 0, **changes: Any) -> str:
        """Writes the next signal, caused by the record `seq`; returns its id."""
        self._outbox.received_ns = received_ns
        body = body_of(self.worker, self.n, generation=self._generation, **changes)
        self._outbox.record(self.n, body, seq)
        self._outbox.flush()
        self.n += 1
        return body.id

    def has_read(self, seq: int, state: State = State.FOLLOWING) -> None:
        self._status.status.position = seq
        self._status.enter(state)


class Desk:
    """One router at a time over one folder, in this process. `restart` is what a killed one is followed by."""

    def __init__(self, root: Path, *workers: str, **changes: Any) -> None:
        """With a tape below `root` the desk has a market to look at."""
        self.root = root
        self.spec = router_spec(root, workers or ("talk.X",), **changes)
        self.durable = EVERYTHING
        self._listener: SignalListener | None = None
        self.router = self._start(())

    def restart(self, *deliveries: Delivery) -> Router:
        """The old one is dropped as it is: nothing of it is written any more."""
        self.close()
        self.router = self._start(deliveries)
        return self.router

    def decide(self) -> list[str]:
        """Turns until nothing is left to do; returns the ids of all decisions there are."""
        self.router._next_look = 0.0
        while self.router.turn():
            self.router._next_look = 0.0
        return [decision.signal_id for decision in self.decisions()]

    def decisions(self) -> list[Decision]:
        return decisions_in(self.root)

    @property
    def status(self) -> Status:
        status = read_status(self.root / "router" / "status")
        assert status is not None
        return status

    def close(self) -> None:
        assert self._listener is not None
        self._listener.close()

    def _start(self, deliveries: Sequence[Delivery]) -> Router:
        self._listener = SignalListener(self.spec.doorbell)
        return Router(
            self.spec,
            listener=self._listener,
            durable=lambda: self.durable,
            deliveries=deliveries,
            operator=Operator(self.root / "router", self.root / "workers", client=CLIENT, trading=None, on_restart={}),
            status=StatusFile(self.root / "router" / "status"),
            market=Market(self.root / "tape") if (self.root / "tape").exists() else None,
        )


def decisions_in(root: Path) -> list[Decision]:
    reader, found = DecisionReader(decision_log(root / "router")), []
    while decisions := reader.read():
        found += decisions
    reader.close()
    return found


def refusals(decisions: Sequence[Decision]) -> list[tuple[str, str]]:
    return [(decision.verdict, decision.reason) for decision in decisions]


def symbols(decisions: Sequence[Decision]) -> list[str]:
    return [decode_body(decision.body).symbol for decision in decisions]


class KeepingSink:
    """A sink in memory. `trouble` may raise before anything is kept."""

    name = "keeping"

    def __init__(self, trouble: Callable[[int], None] = lambda tries: None) -> None:
        self.kept: list[Decision] = []
        self.opened = 0
        self.tries = 0
        self._trouble = trouble

    def open(self) -> Sink:
        self.opened += 1
        return self

    def cursor(self) -> int:
        return self.kept[-1].number + 1 if self.kept else 0

    def write(self, decisions: Sequence[Decision]) -> None:
        assert_follows(decisions, self.cursor())
        self.tries += 1
        self._trouble(self.tries)
        self.kept += decisions

    def close(self) -> None:
        pass


def unavailable(tries: int) -> None:
    raise SinkUnavailable("down for maintenance")

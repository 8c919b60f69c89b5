"""A venue for tests: an OMS over the real protocol, in a process of its own, that does wrong what it is told to do wrong.

    with Venue(folder) as venue:
        venue.fault("lose_reply")                       # for the next submit
        oms = ZeroMqOms(context, venue.client, venue.endpoint, timeout_s=0.3)
        ...
        venue.placed()                                  # how many orders were placed, by client order id

What a fault does to the next submit that comes in:

    lose_request    it is never executed, nor answered
    lose_reply      it is executed, and not answered
    late_request    it is executed only after `LATE_S`, whatever came in meanwhile
    late_reply      it is executed, and answered after `LATE_S`
    die_before      the process kills itself before it is executed
    stop_before     the process stands still before it is executed, until `thaw`
    die_after       the process kills itself after it was executed and is durable, before it is answered
    reject          each of its orders is rejected
    reject_stops    each of its stop losses is rejected, and the rest taken

`python -m oms.venue` is the process. VenueBackend and FaultyCalls also serve inside a test's own process.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from strategy_runner.bus.call import CallServer, Route
from strategy_runner.bus.context import new_context
from strategy_runner.bus.news import NewsPublisher
from strategy_runner.bus.request import RequestServer, request
from strategy_runner.model.fill import Fill
from strategy_runner.model.order import (
    FINAL_STATES,
    OmsEvent,
    OmsEventKind,
    OrderChange,
    OrderReport,
    OrderRequest,
    OrderState,
    signed,
)
from strategy_runner.model.position import Position
from strategy_runner.oms.protocol import REQUEST_BYTES_MAX, Request, Submit, decode, news_endpoint
from strategy_runner.oms.refusal import OmsRefused
from strategy_runner.oms.server import OmsServer
from strategy_runner.tape.logs import AppendLog, read_log

LATE_S = 0.5
PATIENCE_S = 20.0
PRICE = Decimal(100)
_POLL_MS = 50


class Placed(msgspec.Struct, frozen=True, tag="placed"):
    """The venue has an order more."""

    order: OrderRequest


class Told(msgspec.Struct, frozen=True, tag="told"):
    event: OmsEvent


class VenueBackend:
    """Takes every order and answers at once; with `fills` it fills each fully, at its limit or at `price`.

    With `dedupe=False` it places an order as often as it is submitted, as some venues do: whoever sends blindly twice has
    two orders then.
    """

    def __init__(self, journal: Path, *, fills: bool = False, dedupe: bool = True) -> None:
        self.placed: Counter[str] = Counter()
        self.rejecting = self.rejecting_stops = False
        self.price = PRICE
        self.fills = fills
        self._dedupe = dedupe
        self._lock = threading.Lock()
        self._orders: dict[tuple[str, str], OrderRequest] = {}
        self._reports: dict[tuple[str, str], OrderReport] = {}
        self._events: dict[str, list[OmsEvent]] = {}
        self._log = AppendLog(journal)
        for payload in read_log(journal):
            self._fold(msgspec.msgpack.decode(payload, type=Placed | Told))

    def submit(self, client: str, orders: Sequence[OrderRequest]) -> list[OrderReport]:
        with self._lock:
            for order in orders:
                known = (client, order.client_order_id) in self._reports
                if not known or not self._dedupe:
                    self._place(order)
            self.rejecting = self.rejecting_stops = False
            self._log.sync()
            return [self._reports[client, order.client_order_id] for order in orders]

    def modify(self, client: str, change: OrderChange) -> OrderReport:
        with self._lock:
            report = self._reports.get((client, change.client_order_id))
            if report is None or report.state in FINAL_STATES:
                return report or _unknown(client, change.client_order_id)
            quantity = change.quantity or report.quantity
            state = OrderState.FILLED if quantity == report.filled else report.state
            changed = msgspec.structs.replace(report, quantity=quantity, state=state)
            self._tell("modified", changed)
            self._log.sync()
            return changed

    def cancel(self, client: str, client_order_id: str) -> OrderReport:
        with self._lock:
            report = self._reports.get((client, client_order_id))
            if report is None or report.state in FINAL_STATES:
                return report or _unknown(client, client_order_id)
            changed = msgspec.structs.replace(report, state=OrderState.CANCELLED, reason="asked")
            self._tell("cancelled", changed)
            self._log.sync()
            return changed

    def query(self, client: str, client_order_ids: Sequence[str]) -> list[OrderReport | None]:
        with self._lock:
            return [self._reports.get((client, order_id)) for order_id in client_order_ids]

    def open_orders(self, client: str) -> list[OrderReport]:
        with self._lock:
            return [
                report
                for (owner, _), report in self._reports.items()
                if owner == client and report.state not in FINAL_STATES
            ]

    def positions(self, client: str) -> list[Position]:
        with self._lock:
            held: dict[tuple[str, str, str], Decimal] = {}
            for event in self._events.get(client, []):
                if event.fill is not None:
                    key = event.fill.account, event.fill.strategy, event.fill.symbol
                    held[key] = held.get(key, Decimal(0)) + signed(event.fill.side, event.fill.quantity)
        return [
            Position(client=client, account=account, strategy=strategy, symbol=symbol, quantity=quantity)
            for (account, strategy, symbol), quantity in held.items()
        ]

    def events(self, client: str, from_number: int, limit: int) -> list[OmsEvent]:
        with self._lock:
            return self._events.get(client, [])[from_number : from_number + limit]

    def last_number(self, client: str) -> int:
        with self._lock:
            return len(self._events.get(client, []))

    def fill(self, client: str, client_order_id: str, quantity: Decimal | None = None) -> None:
        """Fills an open order, fully or by so much."""
        with self._lock:
            self._fill(self._orders[client, client_order_id], quantity)
            self._log.sync()

    def _place(self, order: OrderRequest) -> None:
        rejects = self.rejecting or (self.rejecting_stops and order.leg == "stop_loss")
        report = OrderReport(
            client_order_id=order.client_order_id,
            client=order.client,
            state=OrderState.REJECTED if rejects else OrderState.ACKNOWLEDGED,
            quantity=order.quantity,
            reason="venue_says_no" if rejects else "",
            oms_order_id=f"venue-{sum(self.placed.values())}",
        )
        if not rejects:
            self._keep(Placed(order))
        else:
            self._orders[order.client, order.client_order_id] = order
        self._tell("rejected" if rejects else "acknowledged", report, order)
        if self.fills and not rejects:
            self._fill(order)

    def _fill(self, order: OrderRequest, some: Decimal | None = None) -> None:
        number = len(self._events.get(order.client, []))
        before = self._reports[order.client, order.client_order_id]
        quantity = order.quantity - before.filled if some is None else some
        filled = before.filled + quantity
        price = order.limit_price or self.price
        fill = Fill(
            fill_id=f"{order.client_order_id}/{number}",
            client_order_id=order.client_order_id,
            signal_id=order.signal_id,
            client=order.client,
            account=order.account,
            strategy=order.strategy,
            symbol=order.symbol,
            side=order.side,
            price=price,
            quantity=quantity,
            fee=Decimal("0.01"),
            currency="USD",
            liquidity="taker",
            event_ns=order.event_ns + 1,
        )
        state = OrderState.FILLED if filled == order.quantity else OrderState.PARTIALLY_FILLED
        report = msgspec.structs.replace(before, state=state, filled=filled, average_price=price)
        self._tell("fill", report, order, fill)

    def _tell(
        self, kind: OmsEventKind, report: OrderReport, order: OrderRequest | None = None, fill: Fill | None = None
    ) -> None:
        order = order or self._orders[report.client, report.client_order_id]
        event = OmsEvent(
            number=len(self._events.get(report.client, [])),
            client=report.client,
            kind=kind,
            event_ns=order.event_ns + 1,
            seq=-1,
            report=report,
            fill=fill,
            account=order.account,
            strategy=order.strategy,
            symbol=order.symbol,
        )
        self._keep(Told(event))

    def _keep(self, entry: Placed | Told) -> None:
        self._log.append(msgspec.msgpack.encode(entry))
        self._fold(entry)

    def _fold(self, entry: Placed | Told) -> None:
        if isinstance(entry, Placed):
            self._orders[entry.order.client, entry.order.client_order_id] = entry.order
            self.placed[entry.order.client_order_id] += 1
            return
        event = entry.event
        self._events.setdefault(event.client, []).append(event)
        assert event.report is not None
        self._reports[event.client, event.report.client_order_id] = event.report


class FaultyCalls:
    """A CallServer to all who use it, but for what `fault` asked to go wrong with the next submits."""

    def __init__(self, calls: CallServer, backend: VenueBackend) -> None:
        self.submits = 0
        self._calls = calls
        self._backend = backend
        self._faults: deque[str] = deque()
        self._late: list[tuple[float, Route, bytes]] = []
        self._answered_late: list[tuple[float, Route, bytes]] = []
        self._current: dict[Route, str] = {}

    def fault(self, kind: str) -> None:
        self._faults.append(kind)

    @property
    def waitable(self) -> Any:
        return self._calls.waitable

    def receive(self, limit: int) -> list[tuple[Route, bytes]]:
        now = time.monotonic()
        for due, route, answer in list(self._answered_late):
            if due <= now:
                self._answered_late.remove((due, route, answer))
                self._calls.answer(route, answer)
        taken = []
        for due, route, question in list(self._late):
            if due <= now:
                self._late.remove((due, route, question))
                taken.append((route, question))
        for route, question in self._calls.receive(1 if not taken else 0):
            if self._take(route, question, now):
                taken.append((route, question))
        return taken

    def _take(self, route: Route, question: bytes, now: float) -> bool:
        self._current.pop(route, None)
        if not _is_submit(question):
            return True
        self.submits += 1
        kind = self._faults.popleft() if self._faults else ""
        match kind:
            case "lose_request":
                return False
            case "late_request":
                self._late.append((now + LATE_S, route, question))
                return False
            case "die_before":
                os.kill(os.getpid(), signal.SIGKILL)
            case "stop_before":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "reject":
                self._backend.rejecting = True
            case "reject_stops":
                self._backend.rejecting_stops = True
            case "":
                pass
            case _:
                self._current[route] = kind
        return True

    def answer(self, route: Route, answer: bytes) -> None:
        match self._current.pop(route, ""):
            case "lose_reply":
                return
            case "late_reply":
                self._answered_late.append((time.monotonic() + LATE_S, route, answer))
            case "die_after":
                os.kill(os.getpid(), signal.SIGKILL)
            case _:
                self._calls.answer(route, answer)

    def close(self) -> None:
        self._calls.close()


class Venue:
    """The venue as a process: started, killed, stopped and told what to do wrong from a test."""

    def __init__(self, folder: Path, *, client: str = "acme", fills: bool = False, dedupe: bool = True) -> None:
        """`folder` has a short path, since sockets lie in it. What happened is kept there, over every restart."""
        self.client = client
        self.endpoint = f"ipc://{folder}/venue.sock"
        self._folder = folder
        self._control = f"ipc://{folder}/control.sock"
        self._words = [str(folder), client, "1" if fills else "", "1" if dedupe else ""]
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "Venue":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Returns when it answers."""
        paths = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "oms.venue", *self._words],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": paths},
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        """As kill -9; also one that has died already, or stands still."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        self.wait_stopped()  # until then it may still answer

    def wait_stopped(self) -> None:
        assert self._process is not None
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def wait_dead(self) -> None:
        assert self._process is not None
        self._process.wait(PATIENCE_S)

    def fault(self, kind: str) -> None:
        self._tell({"fault": kind})

    def fill(self, client_order_id: str) -> None:
        """Fills an open order fully."""
        self._tell({"fill": client_order_id})

    def placed(self) -> dict[str, int]:
        """How many orders were placed, by client order id; counted over all lives."""
        counts: dict[str, int] = self._tell({})["placed"]
        return counts

    def submits(self) -> int:
        """How many submits came in during this life."""
        count: int = self._tell({})["submits"]
        return count

    def _tell(self, what: dict[str, str]) -> dict[str, Any]:
        answer: dict[str, Any] = request(self._control, what, PATIENCE_S)
        return answer


def main(folder: Path, client: str, fills: str, dedupe: str) -> None:
    context = new_context()
    backend = VenueBackend(folder / "venue.log", fills=bool(fills), dedupe=bool(dedupe))
    endpoint = f"ipc://{folder}/venue.sock"
    calls = FaultyCalls(CallServer(context, endpoint, frame_bytes_max=REQUEST_BYTES_MAX), backend)
    server = OmsServer(context, backend, name="venue")
    server.serve_at(client, calls, NewsPublisher(context, news_endpoint(endpoint)))  # type: ignore[arg-type]
    control = RequestServer(context, f"ipc://{folder}/control.sock")
    print("ready", flush=True)
    while True:
        server.check()
        told = control.receive(_POLL_MS)
        if told is None:
            continue
        if "fault" in told:
            calls.fault(told["fault"])
        if "fill" in told:
            backend.fill(client, told["fill"])
            server.on_news(client, backend.last_number(client))
        control.answer({"placed": dict(backend.placed), "submits": calls.submits})


def _is_submit(question: bytes) -> bool:
    try:
        return isinstance(decode(Request, question).ask, Submit)
    except OmsRefused:
        return False


def _unknown(client: str, client_order_id: str) -> OrderReport:
    return OrderReport(
        client_order_id=client_order_id,
        client=client,
        state=OrderState.REJECTED,
        quantity=Decimal(0),
        reason="unknown_order",
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])

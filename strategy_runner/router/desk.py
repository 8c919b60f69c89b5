"""The order desk: a thread of the router that takes the accepted decisions to the OMS, and what becomes of them to the workers.

It follows the decision log like a sink. Its own truth is its journal: after any end it begins again with that, and with what
the OMS answers. The OMS may be down for an hour, and the router decides on.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from strategy_runner.bus.doorbell import FillDoorbell
from strategy_runner.config.spec import OmsSpec, RouterSpec
from strategy_runner.errors import StrategyRunnerError
from strategy_runner.model.instrument import Instrument
from strategy_runner.oms.interface import EventsUnavailable, Oms, OmsUnavailable
from strategy_runner.oms.refusal import OmsRefused
from strategy_runner.risk.limits import Rate, rate_of
from strategy_runner.router.hand import Cancel, Flatten, Hand, Reconcile, Wish, Withdraw
from strategy_runner.router.journal import DecisionReader, decision_log
from strategy_runner.router.order_book import LostStop
from strategy_runner.router.order_entry import Scope
from strategy_runner.router.order_flow import OrderFlow
from strategy_runner.router.order_journal import OrderJournal, Written
from strategy_runner.router.reconciliation import Difference
from strategy_runner.router.right_of_way import GiveWay, no_way_given
from strategy_runner.router.unprotected import Unprotected, Watch
from strategy_runner.tape.files import is_full

RETRY_S_MIN = 0.1
RETRY_S_MAX = 2.0
IDLE_MS = 250
NOTHING_HEARD = "no fill is heard of, so only exits and cancellations leave"
WRITTEN_MAX = 10_000  # entries that nobody has followed yet; older ones are read from the disk
NO_RATE = Rate(1_000_000, 1_000_000_000)

log = logging.getLogger(__name__)


class Desk:
    """Opens the OMS in its own thread and trades with it until `stop`. The counts and words below are for others to read.

    `written` has what the journal was given, for who follows it to take out. `reconciled` is set once positions and orders have
    been compared with the OMS's since the start, and `differences` is what was found last; `lost_stops` are those of
    workers that hold or enter something, `unprotected` is what is held without its stop. `broken` is a fault of the disk that
    ends the router.
    """

    def __init__(
        self,
        spec: RouterSpec,
        open_oms: Callable[[], Oms],
        *,
        clock: Callable[[], int],
        event_ns: Callable[[], int],
    ) -> None:
        """`clock` is the feed's clock, `event_ns` how far tape time has come; both are called in the desk's thread."""
        assert spec.oms is not None
        self.name = "oms"
        self.cursor = 0
        self.fault = ""
        self.written: deque[Written] = deque(maxlen=WRITTEN_MAX)
        self.acted = 0
        self.unknown = 0
        self.open_orders = 0
        self.reconciled = threading.Event()
        self.differences: tuple[Difference, ...] = ()
        self.lost_stops: tuple[LostStop, ...] = ()
        self.unprotected: tuple[Unprotected, ...] = ()
        self.broken: OSError | None = None
        self._spec = spec
        self._oms_spec: OmsSpec = spec.oms
        self._instruments: dict[str, Instrument] = dict(spec.instruments)
        self._open_oms = open_oms
        self._clock = clock
        self._event_ns = event_ns
        self._below = self._seen = 0  # offsets of the decision log: what is durable, what a life has been given of it
        self._wishes: deque[Wish] = deque()
        self._news = threading.Event()
        self._stopping = threading.Event()
        self._stop_by = 0.0
        self._give_way: GiveWay = no_way_given
        self._oms: Oms | None = None
        self._oms_lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="desk", daemon=True)

    # -- as a sink -----------------------------------------------------------------------------------------------------------

    def start(self, instruments: Mapping[str, Instrument], give_way: GiveWay = no_way_given) -> None:
        """What is durable by now, another router may have traded. `instruments` are those of every symbol that was ever traded:
        one that has left the plan may still have orders and a position."""
        self._instruments.update(instruments)
        self._give_way = give_way
        self._seen = self._below
        self._thread.start()

    def advance(self, below: int, *, is_asked: bool = True) -> None:
        """Decisions below this offset of the log are durable and may be traded; what asks for nothing at the OMS is passed at
        the next look."""
        if below > self._below:
            self._below = below
            if is_asked:
                self._wake()

    def stop(self, timeout_s: float) -> None:
        """Lets what is durable go out, at most for the time given. Open orders stay as they are."""
        self._stop_by = time.monotonic() + timeout_s
        self._stopping.set()
        self._wake()
        self._thread.join(timeout_s + RETRY_S_MAX)

    def reload(self, spec: RouterSpec) -> None:
        """New limits, priorities, instruments and accounts. An instrument that left stays known."""
        self._instruments.update(spec.instruments)
        self._spec = spec

    # -- what operators ask --------------------------------------------------------------------------------------------------

    def cancel_entries(self, action: int, scope: Scope) -> None:
        """Cancels the entries of a scope that are still open, those of decisions before this call among them. Returns at once:
        `acted` says how far actions are durable, and from then on they are carried out whatever dies. An action at or below it
        is passed over."""
        self._ask(Cancel(action, scope))

    def flatten(self, action: int, scope: Scope) -> None:
        """Cancels the open orders of a scope and exits what its workers hold, as `cancel_entries`."""
        self._ask(Flatten(action, scope))

    def reconcile(self, action: int, *, accept: bool = False) -> None:
        """Compares with the OMS again; with `accept` what the OMS says becomes the truth here. As `cancel_entries`."""
        self._ask(Reconcile(action, accept))

    # -- what an open breaker asks -------------------------------------------------------------------------------------------

    def withdraw(self, entries: dict[str, str]) -> None:
        """Cancels entries, given by client order id with the reason. To be asked again while they are open: it may be lost."""
        self._ask(Withdraw(entries))

    def _ask(self, wish: Wish) -> None:
        self._wishes.append(wish)
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        with self._oms_lock:
            if self._oms is not None:
                self._oms.wake()

    # -- the thread ----------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            try:
                self._live()
                return
            except StrategyRunnerError as error:
                self.fault = str(error)
                log.error("order desk: %s; beginning again in %g s", error, RETRY_S_MAX)
            except OSError as error:
                self.fault = f"{error.filename or 'order desk'}: {error.strerror or error}"
                if not is_full(error):
                    self.broken = error
                    log.error("order desk: %s", self.fault)
                    return
                log.error("order desk: %s; beginning again in %g s", self.fault, RETRY_S_MAX)
            except Exception as error:
                self.fault = f"{type(error).__name__}: {error}"
                log.exception("order desk failed; beginning again in %g s", RETRY_S_MAX)
            if self._stopping.wait(RETRY_S_MAX):
                return

    def _live(self) -> None:
        """One life: from the journal as it stands to the next error, or the stop."""
        folder = Path(self._spec.folder)
        with ExitStack() as closing:
            fills, client = Path(self._oms_spec.fills), self._spec.client
            journal = OrderJournal(folder, fills, client, self._instruments, written=self.written)
            closing.callback(journal.close)
            decisions = DecisionReader(decision_log(folder), journal.book.next_decision)
            closing.callback(decisions.close)
            bell = FillDoorbell(self._oms_spec.doorbell, client) if self._oms_spec.doorbell else None
            if bell is not None:
                closing.callback(bell.close)
            oms = self._open_oms()
            closing.callback(oms.close)
            flow = OrderFlow(
                journal,
                oms,
                decisions,
                clock=self._clock,
                event_ns=self._event_ns,
                ring=bell.ring if bell is not None else lambda durable: None,
                rate=_rate(self._spec),
                priorities=self._spec.risk.priorities,
                instruments=self._instruments,
                below=self._seen,
            )
            hand = Hand(journal, oms, flow, folder, self._instruments, self._event_ns)
            with self._oms_lock:
                self._oms = oms
            try:
                self._trade(journal, oms, flow, hand)
            finally:
                with self._oms_lock:
                    self._oms = None
            journal.note(force=True)

    def _trade(self, journal: OrderJournal, oms: Oms, flow: OrderFlow, hand: Hand) -> None:
        retry_at, retry_s = 0.0, RETRY_S_MIN
        spec, watch = self._spec, Watch()
        while True:
            self._give_way()
            self._news.clear()
            stopping = self._stopping.is_set()
            if self._spec is not spec:
                spec = self._spec
                flow.set_terms(_rate(spec), spec.risk.priorities)
            worked = False
            asked = len(self._wishes)
            self._seen = self._below
            while flow.take_decisions(self._seen):  # what was accepted before a wish came is an order that it concerns
                worked = True
                if not asked:
                    break
            for _ in range(asked):
                hand.take(self._wishes[0])
                self._wishes.popleft()  # only now, since a disk that is full ends this life before the wish is on it
                worked = True
            worked |= flow.lapse()
            if time.monotonic() >= retry_at:
                try:
                    if flow.is_drained:  # no new order waits until fills of others are on the disk
                        self._give_way()
                        worked |= flow.send()
                    self._give_way()
                    worked |= flow.take_events()
                    worked |= flow.resolve()
                    worked |= flow.send()
                    worked |= flow.tidy()
                    worked |= flow.cancel()
                    worked |= flow.modify()
                    worked |= hand.turn()
                    self.fault, retry_s = flow.fault, RETRY_S_MIN
                except (OmsUnavailable, OmsRefused) as error:
                    self.fault, flow.is_drained = str(error), False
                    if isinstance(error, EventsUnavailable):
                        self.fault = f"{NOTHING_HEARD}: {error}"
                        worked |= self._let_out(flow)
                    log.warning("order desk: %s; next try in %.1f s", error, retry_s)
                    retry_at, retry_s = time.monotonic() + retry_s, min(2 * retry_s, RETRY_S_MAX)
            journal.note()
            if hand.is_reconciled and flow.is_settled:
                watch.turn(journal.book)
                self.unprotected = watch.found
            self._publish(journal, flow, hand)
            if stopping and (not worked or time.monotonic() > self._stop_by):
                return
            if not worked:
                self._wait(oms, retry_at, flow.idle_ms(IDLE_MS))

    def _let_out(self, flow: OrderFlow) -> bool:
        """While no fill is heard of, nothing is entered; but what takes risk away goes on: exits, which only reduce, and
        cancellations."""
        try:
            return any([flow.resolve(), flow.send(exits_only=True), flow.tidy(), flow.cancel()])
        except (OmsUnavailable, OmsRefused) as error:
            self.fault = str(error)
            return False

    def _wait(self, oms: Oms, retry_at: float, idle_ms: int) -> None:
        left_s = retry_at - time.monotonic()
        if left_s > 0:
            self._news.wait(left_s)
        elif not self._news.is_set():
            oms.wait(idle_ms)

    def _publish(self, journal: OrderJournal, flow: OrderFlow, hand: Hand) -> None:
        book = journal.book
        self.cursor = book.next_decision
        self.acted = book.acted
        self.lost_stops = tuple(book.unprotected.values())
        self.unknown, self.open_orders = flow.asking, len(book.orders)
        self.differences = hand.differences
        if hand.is_reconciled:
            self.reconciled.set()


def _rate(spec: RouterSpec) -> Rate:
    limit = spec.risk.max_orders_per_second
    return NO_RATE if limit is None else rate_of(limit, 1)

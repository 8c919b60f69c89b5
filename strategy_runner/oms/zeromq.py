"""The OMS over ZeroMQ: one client's way into an OMS that speaks this product's own protocol. What the paper OMS is asked by.

A question without an answer in time is given up together with its socket and its session (session.py says why).
"""

import time
from collections.abc import Sequence
from typing import TypeVar

from strategy_runner.bus.call import Caller, wait_for_any
from strategy_runner.bus.context import Context
from strategy_runner.bus.news import NewsListener
from strategy_runner.bus.wake import Wake
from strategy_runner.model.order import OmsEvent, OrderChange, OrderReport, OrderRequest
from strategy_runner.model.position import Position
from strategy_runner.oms.event_window import EventWindow
from strategy_runner.oms.interface import OmsUnavailable
from strategy_runner.oms.protocol import (
    ANSWER_BYTES_MAX,
    BEAT_S,
    EVENTS_MAX,
    IDS_MAX,
    ORDERS_MAX,
    Answer,
    Ask,
    Beat,
    Cancel,
    Events,
    Happened,
    Hello,
    History,
    Holdings,
    Modify,
    News,
    OpenOrders,
    Positions,
    Query,
    Refused,
    Reports,
    Request,
    Submit,
    Welcome,
    decode,
    encode,
    news_endpoint,
    topic_of,
)
from strategy_runner.oms.refusal import OmsRefused
from strategy_runner.oms.session import Session

TIMEOUT_S = 2.0
SILENCE_S = 5 * BEAT_S
_NEWS_PER_LOOK = 1_000
_R = TypeVar("_R", Welcome, Reports, Holdings, History)


class ZeroMqOms:
    """Implements oms/interface.py's Oms. Raises OmsUnavailable for silence and OmsRefused for a refusal."""

    def __init__(self, context: Context, client: str, endpoint: str, *, timeout_s: float = TIMEOUT_S) -> None:
        """Connects to nobody yet: an OMS that is down is found out by the first question."""
        self._context = context
        self._client = client
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        self._caller: Caller | None = None
        self._session = Session(endpoint, self._open, self._hang_up, timeout_s=timeout_s)
        self._number = 0
        self._news = NewsListener(context, news_endpoint(endpoint), topic_of(client), frame_bytes_max=ANSWER_BYTES_MAX)
        self._wake = Wake()
        self._window = EventWindow()
        self._heard_at = time.monotonic()
        self._position = 0

    def submit(self, orders: Sequence[OrderRequest]) -> list[OrderReport]:
        reports: list[OrderReport] = []
        for at in range(0, len(orders), ORDERS_MAX):
            batch = tuple(orders[at : at + ORDERS_MAX])
            reports += self._reports(Submit(batch), [order.client_order_id for order in batch])
        return reports

    def modify(self, change: OrderChange) -> OrderReport:
        return self._reports(Modify(change), [change.client_order_id])[0]

    def cancel(self, client_order_id: str) -> OrderReport:
        return self._reports(Cancel(client_order_id), [client_order_id])[0]

    def query(self, client_order_ids: Sequence[str]) -> list[OrderReport | None]:
        found: list[OrderReport | None] = []
        for at in range(0, len(client_order_ids), IDS_MAX):
            batch = tuple(client_order_ids[at : at + IDS_MAX])
            reports = self._ask(Query(batch), Reports).reports
            self._session.expect_reports(batch, reports)
            found += reports
        return found

    def open_orders(self) -> list[OrderReport]:
        return self._reports(OpenOrders(), None)

    def positions(self) -> list[Position]:
        return list(self._ask(Positions(), Holdings).positions)

    def events(self, from_number: int, limit: int) -> list[OmsEvent]:
        """From what was heard, if that is complete; else the OMS is asked. Refused with `ahead` if it has no such events."""
        self._listen()
        events = None if self._is_silent else self._window.take(from_number, limit)
        if events is None:
            history = self._ask(Events(from_number, min(limit, EVENTS_MAX)), History)
            events = list(history.events)
            self._session.expect_events(from_number, events)
            self._window.hear(events)
            self._window.hear_next(history.next)
        self._position = from_number + len(events)
        return events

    def wait(self, timeout_ms: int) -> bool:
        """True also when the OMS has been silent for SILENCE_S: the next `events` then finds out whether it is there."""
        deadline = time.monotonic() + timeout_ms / 1e3
        while True:
            self._listen()
            if not self._is_silent and self._window.has_news(self._position):
                return True
            left_ms = int((deadline - time.monotonic()) * 1e3)
            if left_ms <= 0 or self._wake.hush():
                return self._is_silent
            wait_for_any(min(left_ms, int(SILENCE_S * 1e3)), self._news.waitable, self._wake.waitable)

    def wake(self) -> None:
        self._wake.ring()

    def close(self) -> None:
        self._session.give_up()
        self._news.close()
        self._wake.close()

    # -- asking --------------------------------------------------------------------------------------------------------

    def _reports(self, ask: Ask, order_ids: Sequence[str] | None) -> list[OrderReport]:
        """Of these orders, or of any."""
        answered = self._ask(ask, Reports).reports
        reports = [report for report in answered if report is not None]
        if order_ids is None:
            self._session.expect(len(reports) == len(answered), f"{len(answered)} reports", f"{len(reports)}")
        else:
            self._session.expect_reports(order_ids, reports)
        return reports

    def _ask(self, ask: Ask, kind: type[_R]) -> _R:
        return self._session.ask(lambda session, deadline: self._call(ask, kind, session, deadline))

    def _open(self, deadline: float) -> str:
        if self._caller is None:
            self._caller = Caller(self._context, self._endpoint, frame_bytes_max=ANSWER_BYTES_MAX)
        welcome = self._call(Hello(), Welcome, "", deadline)
        self._window.hear_next(welcome.next)
        return welcome.session

    def _call(self, ask: Ask, kind: type[_R], session: str, deadline: float) -> _R:
        assert self._caller is not None
        self._number += 1
        request = Request(number=self._number, client=self._client, session=session, ask=ask)
        payload = self._caller.call(encode(request), deadline)
        if payload is None:
            raise OmsUnavailable(f"{self._endpoint}: expected an answer within {self._timeout_s:g} s, found none")
        try:
            answer = decode(Answer, payload)
        except OmsRefused as malformed:
            raise OmsUnavailable(f"{self._endpoint}: {malformed}") from None
        reply = answer.reply
        if isinstance(reply, Refused):
            raise OmsRefused(reply.code, f"{self._endpoint}: {reply.message}")
        if answer.number != self._number or not isinstance(reply, kind):
            expected = f"{kind.__name__.lower()} to {self._number}"
            found = f"{type(reply).__name__.lower()} to {answer.number}"
            raise OmsUnavailable(f"{self._endpoint}: expected {expected}, found {found}")
        return reply

    def _hang_up(self) -> None:
        if self._caller is not None:
            self._caller.close()
            self._caller = None

    # -- listening -----------------------------------------------------------------------------------------------------

    @property
    def _is_silent(self) -> bool:
        return time.monotonic() - self._heard_at > SILENCE_S

    def _listen(self) -> None:
        for payload in self._news.hear(_NEWS_PER_LOOK):
            try:
                news = decode(News, payload).news
            except OmsRefused:
                continue  # as if it had been lost: the next beat shows the gap
            self._heard_at = time.monotonic()
            match news:
                case Happened(event):
                    self._window.hear((event,))
                case Beat(number):
                    self._window.hear_next(number)

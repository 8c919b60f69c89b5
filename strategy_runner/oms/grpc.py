"""The OMS over gRPC: one client's way into an OMS elsewhere that serves oms/proto/oms.proto. Needs the extra [grpc].

UNAVAILABLE is tried again by gRPC itself, within the time limit: safe, since an OMS takes a client order id once. A deadline
that is exceeded is never tried again here: the outcome is unknown, the session is given up, and whoever asked has to query.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import msgspec

from strategy_runner.errors import ConfigurationError
from strategy_runner.model.order import OmsEvent, OrderChange, OrderReport, OrderRequest
from strategy_runner.model.position import Position
from strategy_runner.oms.event_window import EventWindow
from strategy_runner.oms.interface import OmsUnavailable
from strategy_runner.oms.protocol import BEAT_S, EVENTS_MAX, IDS_MAX, ORDERS_MAX
from strategy_runner.oms.refusal import OmsRefused, RefusalCode
from strategy_runner.oms.session import Session

try:
    import grpc

    from strategy_runner.oms.grpc_channel import open_channel
    from strategy_runner.oms.grpc_messages import message_of, struct_of
    from strategy_runner.oms.proto import oms_pb2 as pb
    from strategy_runner.oms.proto.oms_pb2_grpc import OmsStub
except ImportError as missing:
    raise ConfigurationError(
        f"an OMS over gRPC: expected the packages of the extra [grpc], found no {missing.name}; "
        "install strategy-runner[grpc]"
    ) from missing

if TYPE_CHECKING:
    from google.protobuf.message import Message

TIMEOUT_S = 2.0
SILENCE_S = 5 * BEAT_S
WATCH_AGAIN_S = 0.1
_REFUSALS = {
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.OUT_OF_RANGE,
}
_CODES = frozenset(get_args(RefusalCode))
_R = TypeVar("_R")
_S = TypeVar("_S", bound=msgspec.Struct)


class GrpcOms:
    """Implements oms/interface.py's Oms. Raises OmsUnavailable for silence and OmsRefused for a refusal."""

    def __init__(
        self,
        client: str,
        address: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        token: str = "",
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """`token` says who asks. Connects to nobody yet. Raises SafetyRefusal for another host without credentials."""
        self._client = client
        self._address = address
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._channel = open_channel(address, credentials)
        self._stub: Any = OmsStub(self._channel)  # type: ignore[no-untyped-call]  # protoc writes no types for services
        self._session = Session(address, self._open, lambda: None, timeout_s=timeout_s)
        self._window = EventWindow()
        self._heard = threading.Condition()  # guards window and heard_at, which the watching thread changes
        self._heard_at = time.monotonic()
        self._position = 0
        self._woken = False
        self._closing = threading.Event()
        self._watcher: threading.Thread | None = None

    def submit(self, orders: Sequence[OrderRequest]) -> list[OrderReport]:
        reports: list[OrderReport] = []
        for at in range(0, len(orders), ORDERS_MAX):
            batch = [message_of(order, pb.OrderRequest) for order in orders[at : at + ORDERS_MAX]]
            order_ids = [order.client_order_id for order in batch]
            reports += self._reports(self._stub.Submit, pb.SubmitRequest, order_ids, orders=batch)
        return reports

    def modify(self, change: OrderChange) -> OrderReport:
        asked = message_of(change, pb.OrderChange)
        return self._reports(self._stub.Modify, pb.ModifyRequest, [change.client_order_id], change=asked)[0]

    def cancel(self, client_order_id: str) -> OrderReport:
        asked = {"client_order_id": client_order_id}
        return self._reports(self._stub.Cancel, pb.CancelRequest, [client_order_id], **asked)[0]

    def query(self, client_order_ids: Sequence[str]) -> list[OrderReport | None]:
        found: list[OrderReport | None] = []
        for at in range(0, len(client_order_ids), IDS_MAX):
            batch = list(client_order_ids[at : at + IDS_MAX])
            answer = self._ask(self._stub.Query, pb.QueryRequest, client_order_ids=batch)
            reports = [
                self._struct(each.report, OrderReport) if each.HasField("report") else None for each in answer.found
            ]
            self._session.expect_reports(batch, reports)
            found += reports
        return found

    def open_orders(self) -> list[OrderReport]:
        return self._reports(self._stub.OpenOrders, pb.ClientRequest, None)

    def positions(self) -> list[Position]:
        answer = self._ask(self._stub.Positions, pb.ClientRequest)
        return [self._struct(position, Position) for position in answer.positions]

    def events(self, from_number: int, limit: int) -> list[OmsEvent]:
        """From what was heard, if that is complete; else the OMS is asked. Refused with `ahead` if it has no such events."""
        self._start_watching(from_number)
        with self._heard:
            events = None if self._is_silent else self._window.take(from_number, limit)
        if events is None:
            events = self._asked_events(from_number, min(limit, EVENTS_MAX))
        self._position = from_number + len(events)
        return events

    def wait(self, timeout_ms: int) -> bool:
        """True also when the OMS has been silent for SILENCE_S: the next `events` then finds out whether it is there."""
        self._start_watching(self._position)
        with self._heard:
            self._heard.wait_for(
                lambda: self._woken or (not self._is_silent and self._window.has_news(self._position)),
                timeout=timeout_ms / 1e3,
            )
            self._woken = False
            return self._is_silent or self._window.has_news(self._position)

    def wake(self) -> None:
        with self._heard:
            self._woken = True
            self._heard.notify_all()

    def close(self) -> None:
        self._closing.set()
        self._channel.close()  # ends what is under way, the watching too
        if self._watcher is not None:
            self._watcher.join()

    # -- asking --------------------------------------------------------------------------------------------------------

    def _reports(self, method: Any, kind: Any, order_ids: Sequence[str] | None, **fields: Any) -> list[OrderReport]:
        """Of these orders, or of any."""
        answer = self._ask(method, kind, **fields)
        reports = [self._struct(report, OrderReport) for report in answer.reports]
        if order_ids is not None:
            self._session.expect_reports(order_ids, reports)
        return reports

    def _asked_events(self, from_number: int, limit: int) -> list[OmsEvent]:
        history = self._ask(self._stub.Events, pb.EventsRequest, from_number=from_number, limit=limit)
        events = [self._struct(event, OmsEvent) for event in history.events]
        self._session.expect_events(from_number, events)
        with self._heard:
            self._window.hear(events)
            self._window.hear_next(history.next)
        return events

    def _ask(self, method: Any, kind: Any, **fields: Any) -> Any:
        def question(session: str, deadline: float) -> Any:
            return self._call(method, kind(client=self._client, session=session, **fields), deadline)

        return self._session.ask(question)

    def _open(self, deadline: float) -> str:
        opened = self._call(self._stub.OpenSession, pb.OpenSessionRequest(client=self._client), deadline)
        with self._heard:
            self._window.hear_next(opened.next)
        session: str = opened.session
        return session

    def _call(self, method: Callable[..., _R], request: "Message", deadline: float) -> _R:
        left_s = max(0.0, deadline - time.monotonic())
        try:
            return method(request, timeout=left_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise self._translated(error) from None

    def _translated(self, error: grpc.RpcError) -> OmsUnavailable | OmsRefused:
        assert isinstance(error, grpc.Call), error
        code, words = error.code(), error.details() or ""
        if code not in _REFUSALS:
            return OmsUnavailable(f"{self._address}: {code.name}: {words}")
        trailing = dict(error.trailing_metadata() or ())
        told = trailing.get("oms-code")
        refusal: Any = told if told in _CODES else "refused"
        return OmsRefused(refusal, f"{self._address}: {words}")

    def _struct(self, message: "Message", kind: type[_S]) -> _S:
        try:
            return struct_of(message, kind)
        except msgspec.ValidationError as error:
            self._session.give_up()
            raise OmsUnavailable(f"{self._address}: {message.DESCRIPTOR.name}: {error}") from None

    # -- watching ------------------------------------------------------------------------------------------------------

    @property
    def _is_silent(self) -> bool:
        return time.monotonic() - self._heard_at > SILENCE_S

    def _start_watching(self, from_number: int) -> None:
        if self._watcher is None:
            self._watcher = threading.Thread(
                target=self._keep_watching, args=(from_number,), name="oms-watch", daemon=True
            )
            self._watcher.start()

    def _keep_watching(self, from_number: int) -> None:
        """One stream after the other, until the end. What is lost between them is asked for by `events`."""
        while not self._closing.is_set():
            with suppress(grpc.RpcError, ValueError, msgspec.ValidationError):  # ValueError: the channel was closed
                asked = pb.WatchRequest(client=self._client, from_number=from_number)
                for news in self._stub.Watch(asked, metadata=self._metadata):
                    from_number = self._hear(news, from_number)
            self._closing.wait(WATCH_AGAIN_S)

    def _hear(self, news: pb.News, from_number: int) -> int:
        """Takes one piece of news. Returns from where on the next stream has to tell."""
        event = struct_of(news.event, OmsEvent) if news.HasField("event") else None
        with self._heard:
            self._heard_at = time.monotonic()
            if event is None:
                self._window.hear_next(news.next)
            else:
                self._window.hear((event,))
            self._heard.notify_all()
        return from_number if event is None else event.number + 1

"""The OMS's side of the protocol: what is asked is answered, and who may not ask is refused before anything happens."""

import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq
from oms.venue import VenueBackend
from orders import PATIENCE_S, eventually, follow, order

from strategy_runner.bus.call import Caller
from strategy_runner.bus.context import Context
from strategy_runner.model.order import OrderChange, OrderReport, OrderState
from strategy_runner.oms.protocol import (
    ANSWER_BYTES_MAX,
    EVENTS_MAX,
    ORDERS_MAX,
    REQUEST_BYTES_MAX,
    Answer,
    Ask,
    Cancel,
    Events,
    Hello,
    History,
    Query,
    Refused,
    Reply,
    Reports,
    Request,
    Submit,
    Welcome,
    decode,
    encode,
)
from strategy_runner.oms.server import OmsServer
from strategy_runner.oms.zeromq import ZeroMqOms


class Served:
    """A server over a backend, and plain callers of it."""

    def __init__(self, context: Context, folder: Path, backend: Any, *clients: str) -> None:
        self.context = context
        self.folder = folder
        self.backend = backend
        self.server = OmsServer(context, backend, name="test")
        for client in clients:
            self.server.serve(client, self.endpoint(client))

    def endpoint(self, client: str) -> str:
        return f"ipc://{self.folder}/{client}.sock"

    def ask(self, ask: Ask, *, client: str = "acme", at: str = "acme", session: str = "") -> Reply:
        return self.send(encode(Request(number=7, client=client, session=session, ask=ask)), at=at).reply

    def send(self, question: bytes, *, at: str = "acme") -> Answer:
        caller = Caller(self.context, self.endpoint(at), frame_bytes_max=ANSWER_BYTES_MAX)
        try:
            answer = caller.call(question, time.monotonic() + 10.0)
        finally:
            caller.close()
        assert answer is not None
        return decode(Answer, answer)

    def session(self) -> str:
        welcome = self.ask(Hello())
        assert isinstance(welcome, Welcome)
        return welcome.session


@pytest.fixture
def served(context: Context, folder: Path) -> Iterator[Served]:
    served = Served(context, folder, VenueBackend(folder / "venue.log"), "acme", "other")
    yield served
    served.server.stop()


def test_every_question_has_its_answer(served: Served) -> None:
    oms = ZeroMqOms(served.context, "acme", served.endpoint("acme"))
    first, second, never = order(), order(side="sell"), order()
    assert [report.state for report in oms.submit([first, second])] == [OrderState.ACKNOWLEDGED] * 2
    assert oms.modify(OrderChange(client_order_id=first.client_order_id, quantity=Decimal("0.20"))).quantity == Decimal(
        "0.20"
    )
    assert oms.cancel(second.client_order_id).state is OrderState.CANCELLED
    found = oms.query([second.client_order_id, never.client_order_id, first.client_order_id])
    assert [report and report.state for report in found] == [OrderState.CANCELLED, None, OrderState.ACKNOWLEDGED]
    assert [report.client_order_id for report in oms.open_orders()] == [first.client_order_id]
    assert oms.positions() == []
    served.backend.fill("acme", first.client_order_id)
    assert [(position.symbol, position.quantity) for position in oms.positions()] == [("BTC-USD", Decimal("0.10"))]
    events = follow(oms, 0, 5)
    assert [event.kind for event in events] == ["acknowledged", "acknowledged", "modified", "cancelled", "fill"]
    assert events == served.backend.events("acme", 0, 100), "numbers arrive exactly as they were sent"
    oms.close()


def test_an_order_sent_twice_is_one_order_and_answered_with_what_it_is_now(served: Served) -> None:
    oms = ZeroMqOms(served.context, "acme", served.endpoint("acme"))
    sent = order()
    oms.submit([sent])
    served.backend.fill("acme", sent.client_order_id)
    assert oms.submit([sent])[0].state is OrderState.FILLED
    assert served.backend.placed[sent.client_order_id] == 1
    oms.close()


@pytest.mark.parametrize(
    ("client", "ordered_for"), [("other", "other"), ("acme", "other")], ids=["another's question", "another's order"]
)
def test_a_socket_touches_its_own_clients_orders_alone(served: Served, client: str, ordered_for: str) -> None:
    session = served.session()
    foreign = order(ordered_for)
    reply = served.ask(Submit((order(), foreign)), client=client, session=session)
    assert isinstance(reply, Refused)
    assert reply.code == "foreign_client"
    assert "other" in reply.message
    assert not served.backend.placed, "not one of them was placed"


def test_what_another_client_has_is_unknown_here(served: Served) -> None:
    theirs = order("other")
    served.backend.submit("other", [theirs])
    assert served.ask(Query((theirs.client_order_id,))) == Reports((None,))
    assert served.ask(Events(0, 10)) == History((), 0)
    reply = served.ask(Cancel(theirs.client_order_id), session=served.session())
    assert isinstance(reply, Reports)
    assert reply.reports[0] is not None
    assert reply.reports[0].reason == "unknown_order"
    assert [report.client_order_id for report in served.backend.open_orders("other")] == [theirs.client_order_id]


def test_only_the_latest_session_trades(served: Served) -> None:
    reply = served.ask(Submit((order(),)))
    assert isinstance(reply, Refused)
    assert reply.code == "no_session"
    first, second = served.session(), served.session()
    for ask in (Submit((order(),)), Query(("X",))):
        superseded = served.ask(ask, session=first)
        assert isinstance(superseded, Refused)
        assert superseded.code == "superseded"
    assert isinstance(served.ask(Query(("X",))), Reports), "who only asks needs no session"
    assert not served.backend.placed
    assert isinstance(served.ask(Submit((order(),)), session=second), Reports)


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"quantity": Decimal("NaN")}, "quantity"),
        ({"quantity": Decimal("sNaN")}, "quantity"),
        ({"quantity": Decimal("Infinity")}, "quantity"),
        ({"quantity": Decimal(0)}, "quantity"),
        ({"quantity": Decimal("-0.1")}, "quantity"),
        ({"quantity": Decimal("1E+999999")}, "quantity"),
        ({"quantity": Decimal("1E-999999")}, "quantity"),
        ({"limit_price": Decimal("-Infinity")}, "limit_price"),
        ({"limit_price": None}, "limit_price"),
        ({"type": "stop"}, "stop_price"),
        ({"trail": Decimal(0)}, "trail"),
        ({"client_order_id": ""}, "client_order_id"),
        ({"client_order_id": "X" * 65}, "client_order_id"),
        ({"strategy": "X" * 257}, "strategy"),
        ({"event_ns": -1}, "event_ns"),
        ({"event_ns": 2**63}, "event_ns"),
        ({"expires_ns": 2**64 - 1}, "expires_ns"),
    ],
)
def test_a_number_that_no_order_can_have_is_refused_with_its_place(
    served: Served, changes: dict[str, Any], where: str
) -> None:
    reply = served.ask(Submit((order(), order(**changes))), session=served.session())
    assert isinstance(reply, Refused)
    assert reply.code == "malformed"
    assert f"orders[1].{where}" in reply.message
    assert not served.backend.placed


def test_more_than_one_message_may_hold_is_refused(served: Served) -> None:
    session = served.session()
    for ask, code in (
        (Submit(tuple(order() for _ in range(ORDERS_MAX + 1))), "too_large"),
        (Submit(()), "malformed"),
        (Events(0, EVENTS_MAX + 1), "too_large"),
        (Events(-1, 1), "malformed"),
        (Events(1, 1), "ahead"),
    ):
        reply = served.ask(ask, session=session)
        assert isinstance(reply, Refused)
        assert reply.code == code
    assert not served.backend.placed


def test_what_is_no_question_is_refused_and_the_next_one_answered(served: Served) -> None:
    later = msgspec.msgpack.encode({"version": 2, "number": 9, "client": "acme", "ask": {"type": "levitate"}})
    for question, code, number in (
        (later, "unsupported_version", 9),
        (b"", "malformed", 0),
        (b"\xc1", "malformed", 0),
        (msgspec.msgpack.encode([1, 2, 3]), "malformed", 0),
        (msgspec.msgpack.encode({"version": 1, "number": 9, "client": "acme"}), "malformed", 9),
        (
            msgspec.msgpack.encode({"version": 1, "number": 9, "client": "acme", "ask": {"type": "levitate"}}),
            "malformed",
            9,
        ),
    ):
        answer = served.send(question)
        assert isinstance(answer.reply, Refused)
        assert (answer.reply.code, answer.number) == (code, number)
    assert isinstance(served.ask(Hello()), Welcome)


def test_a_frame_above_the_limit_ends_its_own_connection_alone(served: Served) -> None:
    caller = Caller(served.context, served.endpoint("acme"), frame_bytes_max=ANSWER_BYTES_MAX)
    assert caller.call(b"\xc0" * (REQUEST_BYTES_MAX + 1), time.monotonic() + 0.5) is None
    caller.close()
    assert isinstance(served.ask(Hello()), Welcome)


def test_a_req_socket_is_answered_too(served: Served) -> None:
    socket = served.context.socket(zmq.REQ)
    socket.connect(served.endpoint("acme"))
    socket.send(encode(Request(number=3, client="acme", ask=Hello())))
    assert socket.poll(10_000)
    answer = decode(Answer, socket.recv())
    assert answer.number == 3
    assert isinstance(answer.reply, Welcome)
    socket.close(linger=0)


def test_sockets_are_their_owners_alone(served: Served) -> None:
    sockets = sorted(served.folder.glob("*.sock"))
    assert [path.name for path in sockets] == ["acme-news.sock", "acme.sock", "other-news.sock", "other.sock"]
    assert {path.stat().st_mode & 0o777 for path in sockets} == {0o600}


def test_a_client_comes_and_goes_while_the_others_stay(served: Served) -> None:
    served.server.dismiss("other")
    served.server.serve("late", served.endpoint("late"))
    assert served.server.clients == {"acme", "late"}
    assert isinstance(served.ask(Hello(), client="late", at="late"), Welcome)
    assert isinstance(served.ask(Hello()), Welcome)


class Slow(VenueBackend):
    """Its disk stands still for one client until it is `free`."""

    def __init__(self, journal: Path) -> None:
        super().__init__(journal)
        self.is_still, self.free = threading.Event(), threading.Event()

    def submit(self, client: str, orders: Any) -> list[OrderReport]:
        if client == "acme":
            self.is_still.set()
            assert self.free.wait(PATIENCE_S)
        return super().submit(client, orders)


def test_a_slow_answer_to_one_client_keeps_no_other_waiting(context: Context, folder: Path) -> None:
    backend = Slow(folder / "venue.log")
    served = Served(context, folder, backend, "acme", "other")
    slow = Caller(context, served.endpoint("acme"), frame_bytes_max=ANSWER_BYTES_MAX)
    session = served.session()
    asked = encode(Request(number=1, client="acme", session=session, ask=Submit((order(),))))
    assert slow.call(asked, time.monotonic() + 0.1) is None
    assert backend.is_still.wait(PATIENCE_S)
    other = ZeroMqOms(context, "other", served.endpoint("other"), timeout_s=PATIENCE_S / 2)
    assert other.submit([order("other")])[0].state is OrderState.ACKNOWLEDGED
    backend.free.set()
    other.close()
    slow.close()
    served.server.stop()


class Broken(VenueBackend):
    def positions(self, client: str) -> Any:
        raise OSError(28, "No space left on device")


def test_a_backend_that_fails_is_not_asked_again_and_the_process_is_told(context: Context, folder: Path) -> None:
    served = Served(context, folder, Broken(folder / "venue.log"), "acme")
    served.server.check()
    oms = ZeroMqOms(context, "acme", served.endpoint("acme"), timeout_s=0.3)
    with pytest.raises(Exception, match="expected an answer within"):
        oms.positions()

    def has_fault() -> bool:
        try:
            served.server.check()
        except OSError as error:
            return error.errno == 28
        return False

    eventually(has_fault, "the fault")
    oms.close()
    served.server.stop()

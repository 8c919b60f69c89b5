"""The way into an OMS over gRPC, against a real server: what is tried again is harmless, what is unknown is never."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from grpc_venue import GrpcVenue
from hypothesis import given, settings
from hypothesis import strategies as st
from oms.venue import LATE_S, VenueBackend
from orders import eventually, follow, order
from wire import sinkhole, way_to

from strategy_runner.errors import SafetyRefusal
from strategy_runner.model.order import OmsEvent, OrderChange, OrderRequest, OrderState
from strategy_runner.oms.grpc import WATCH_AGAIN_S, GrpcOms
from strategy_runner.oms.grpc_messages import message_of, struct_of
from strategy_runner.oms.interface import OmsUnavailable
from strategy_runner.oms.proto import oms_pb2 as pb
from strategy_runner.oms.refusal import OmsRefused

Way = Callable[..., GrpcOms]
TIMEOUT_S = 0.3


@pytest.fixture
def venue(folder: Path) -> Iterator[GrpcVenue]:
    venue = GrpcVenue(VenueBackend(folder / "venue.log"))
    venue.start()
    yield venue
    venue.stop()


@pytest.fixture
def way(venue: GrpcVenue) -> Iterator[Way]:
    """Makes ways into the venue."""
    made: list[GrpcOms] = []

    def make(client: str = "acme", timeout_s: float = 5.0, **more: str) -> GrpcOms:
        made.append(GrpcOms(client, venue.address, timeout_s=timeout_s, **more))
        return made[-1]

    yield make
    for oms in made:
        oms.close()


def test_every_question_has_its_answer(venue: GrpcVenue, way: Way) -> None:
    oms = way()
    first, second, never = order(), order(side="sell"), order()
    assert [report.state for report in oms.submit([first, second])] == [OrderState.ACKNOWLEDGED] * 2
    changed = oms.modify(OrderChange(client_order_id=first.client_order_id, quantity=Decimal("0.20")))
    assert changed.quantity == Decimal("0.20")
    assert oms.cancel(second.client_order_id).state is OrderState.CANCELLED
    found = oms.query([second.client_order_id, never.client_order_id, first.client_order_id])
    assert [report and report.state for report in found] == [OrderState.CANCELLED, None, OrderState.ACKNOWLEDGED]
    assert [report.client_order_id for report in oms.open_orders()] == [first.client_order_id]
    venue.backend.fill("acme", first.client_order_id)
    assert oms.positions() == venue.backend.positions("acme")
    assert follow(oms, 0, 5) == venue.backend.events("acme", 0, 100), "numbers arrive exactly as they were sent"


@pytest.mark.parametrize("fault", ["unavailable", "lose_reply"])
def test_unavailable_is_tried_again_and_places_one_order(venue: GrpcVenue, way: Way, fault: str) -> None:
    oms, sent = way(), order()
    venue.faults.extend([fault, fault])
    assert oms.submit([sent])[0].state is OrderState.ACKNOWLEDGED
    assert venue.calls == 3
    assert venue.backend.placed == {sent.client_order_id: 1}


def test_a_deadline_is_not_tried_again_and_a_query_says_what_became_of_it(venue: GrpcVenue, way: Way) -> None:
    oms, sent = way(timeout_s=TIMEOUT_S), order()
    oms.open_orders()
    venue.faults.append("late_reply")
    begun = time.monotonic()
    with pytest.raises(OmsUnavailable, match="DEADLINE_EXCEEDED"):
        oms.submit([sent])
    assert time.monotonic() - begun < 10 * TIMEOUT_S
    assert venue.calls == 1
    (found,) = oms.query([sent.client_order_id])
    assert found is not None
    assert oms.submit([sent])[0].state is OrderState.ACKNOWLEDGED
    assert venue.backend.placed == {sent.client_order_id: 1}


def test_a_request_that_is_late_behind_the_query_is_not_executed_any_more(venue: GrpcVenue, way: Way) -> None:
    oms, ghost = way(timeout_s=TIMEOUT_S), order()
    oms.open_orders()
    venue.faults.append("late_request")
    with pytest.raises(OmsUnavailable):
        oms.submit([ghost])
    assert oms.query([ghost.client_order_id]) == [None]
    due = time.monotonic() + LATE_S
    eventually(lambda: time.monotonic() > due, "the late request to be executed")
    assert oms.query([ghost.client_order_id]) == [None]
    assert not venue.backend.placed


def test_nobody_there_is_unavailable_within_the_time_limit() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        oms = GrpcOms("acme", f"127.0.0.1:{taken.getsockname()[1]}", timeout_s=TIMEOUT_S)
        begun = time.monotonic()
        with pytest.raises(OmsUnavailable):
            oms.submit([order()])
        assert time.monotonic() - begun < 10 * TIMEOUT_S
        oms.close()


def test_an_oms_that_goes_and_returns_is_found_again_and_events_are_complete(venue: GrpcVenue, way: Way) -> None:
    oms = way(timeout_s=TIMEOUT_S)
    sent = [order() for _ in range(12)]
    seen: list[OmsEvent] = []
    for index, one in enumerate(sent):
        if index in (4, 8):
            venue.stop()
            with pytest.raises(OmsUnavailable):
                oms.submit([one])
            venue.start()
        eventually(partial(oms.submit, [one]), "an answer")
        if index % 3 == 0:
            seen += eventually(partial(oms.events, len(seen), 100), "events")
    seen += follow(oms, len(seen), len(sent) - len(seen))
    assert [event.number for event in seen] == list(range(12))
    assert set(venue.backend.placed.values()) == {1}


def test_news_comes_without_asking_and_silence_is_asked_about(venue: GrpcVenue, way: Way) -> None:
    oms = way()
    assert oms.events(0, 10) == []
    sent = order()
    oms.submit([sent])
    assert oms.wait(10_000)
    assert [event.kind for event in follow(oms, 0, 1)] == ["acknowledged"]
    assert not oms.wait(100)
    venue.is_mute = True  # the stream stands and says nothing: what happens meanwhile is found all the same
    venue.backend.fill("acme", sent.client_order_id)
    assert [event.kind for event in follow(oms, 1, 1)] == ["fill"]


def test_a_stream_of_news_that_ends_at_once_is_opened_again_in_peace(folder: Path) -> None:
    """As behind a proxy that has no server. It took a whole processor, and asked a thousand times a second."""
    venue = ShortOfBreath(VenueBackend(folder / "venue.log"))
    venue.start()
    oms = GrpcOms("acme", venue.address)
    oms.events(0, 10)
    begun = time.monotonic()
    eventually(lambda: venue.watched > 3, "the stream to be opened again and again")
    assert time.monotonic() - begun >= 3 * WATCH_AGAIN_S
    oms.close()
    venue.stop()


def test_a_distant_oms_is_connected_to_at_the_first_attempt(venue: GrpcVenue) -> None:
    """Attempts were given up after 50 ms, then after a little more, and orders had no outcome meanwhile."""
    with distant(venue.port, seconds=0.3) as (port, connections):
        oms = GrpcOms("acme", f"127.0.0.1:{port}", timeout_s=5.0)
        assert oms.open_orders() == []
        assert len(connections) == 1
        oms.close()


@contextmanager
def distant(port: int, *, seconds: float) -> Iterator[tuple[int, list[socket.socket]]]:
    """A way to a port on which the server's first word takes its time. Its port, and the connections that were made."""
    heard: set[int] = set()

    def before(connection: int, is_answer: bool) -> None:
        if is_answer and connection not in heard:
            heard.add(connection)
            time.sleep(seconds)

    with way_to(port, before) as way:
        yield way


def test_a_connection_that_passes_nothing_on_any_more_is_replaced(
    venue: GrpcVenue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands, so nobody is told that it is dead; for a minute every order was without an answer."""
    monkeypatch.setattr("orders.PATIENCE_S", 45.0)
    with sinkhole(venue.port) as (port, frozen):
        oms = GrpcOms("acme", f"127.0.0.1:{port}", timeout_s=1.0)
        sent = order()
        oms.submit([sent])
        assert len(follow(oms, 0, 1)) == 1
        frozen.set()
        with pytest.raises(OmsUnavailable):
            oms.open_orders()
        found = eventually(oms.open_orders, "an answer over another connection")
        assert [report.client_order_id for report in found] == [sent.client_order_id]
        oms.close()


def test_what_an_oms_has_lost_is_not_told_in_place_of_what_happened_then(venue: GrpcVenue, way: Way) -> None:
    """As one that was restored from a copy: its next event has the number of one that was heard before."""
    oms, lost, later = way(), order(), order()
    oms.submit([order()])
    oms.submit([lost])
    assert len(follow(oms, 0, 2)) == 2
    venue.stop()
    venue.backend._events["acme"].pop()
    venue.start()
    assert eventually(lambda: oms.submit([later]), "an answer")
    (told,) = follow(oms, 1, 1)
    assert told.report is not None
    assert told.report.client_order_id == later.client_order_id


class ShortOfBreath(GrpcVenue):
    """Ends each stream after one beat."""

    watched = 0

    def Watch(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        self.watched += 1
        yield pb.News(next=self.backend.last_number(self.client))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_an_oms_on_this_host_is_not_asked_through_a_proxy(
    venue: GrpcVenue, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    """It may be on any host, and what goes to one on this host goes in plain text."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        for name in ("grpc_proxy", "http_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.delenv("no_proxy", raising=False)
        oms = GrpcOms("acme", f"{host}:{venue.port}", timeout_s=5.0)
        assert oms.open_orders() == []
        oms.close()
        proxy.setblocking(False)
        with pytest.raises(BlockingIOError):
            proxy.accept()


def test_a_refusal_is_certain_and_says_why(venue: GrpcVenue, way: Way) -> None:
    for refused_way, question, code in (
        (way("other"), lambda oms: oms.open_orders(), "foreign_client"),
        (way(), lambda oms: oms.submit([order("other")]), "foreign_client"),
        (way(), lambda oms: oms.submit([order(quantity=Decimal("NaN"))]), "malformed"),
        (way(), lambda oms: oms.events(3, 10), "ahead"),
    ):
        with pytest.raises(OmsRefused) as refused:
            question(refused_way)
        assert refused.value.code == code
    assert not venue.backend.placed


def test_who_was_replaced_is_told_so_and_asks_nothing_more(venue: GrpcVenue, way: Way) -> None:
    old, new = way(), way()
    old.submit([order()])
    new.submit([order()])
    with pytest.raises(OmsRefused, match="superseded"):
        old.submit([order()])
    assert len(venue.backend.placed) == 2
    with pytest.raises(OmsUnavailable, match="another router of this client is at work"):
        old.submit([order()])
    new.submit([order()])
    assert len(venue.backend.placed) == 3


def test_a_token_goes_with_every_question(folder: Path) -> None:
    venue = GrpcVenue(VenueBackend(folder / "venue.log"), token="secret")
    venue.start()
    known, unknown = GrpcOms("acme", venue.address, token="secret"), GrpcOms("acme", venue.address)
    assert known.open_orders() == []
    with pytest.raises(OmsRefused, match="foreign_client"):
        unknown.open_orders()
    known.close()
    unknown.close()
    venue.stop()


def test_orders_do_not_go_over_a_network_in_the_clear() -> None:
    with pytest.raises(SafetyRefusal, match=r"oms\.example\.com:443: expected credentials \(TLS\)"):
        GrpcOms("acme", "oms.example.com:443")


def test_without_the_extra_the_error_names_it() -> None:
    hide = "import sys; sys.modules['grpc'] = None; import strategy_runner.oms.grpc"
    ended = subprocess.run([sys.executable, "-c", hide], capture_output=True, text=True, check=False)
    assert "ConfigurationError" in ended.stderr
    assert "install strategy-runner[grpc]" in ended.stderr


_numbers = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9)
_sent = st.builds(
    OrderRequest,
    **dict.fromkeys(("client_order_id", "client", "account", "venue", "strategy", "symbol", "signal_id"), st.text()),
    quantity=_numbers,
    event_ns=st.integers(-(2**63), 2**63 - 1),
    limit_price=st.none() | _numbers,
    stop_price=st.none() | _numbers,
    trail=st.none() | _numbers,
    expires_ns=st.integers(0, 2**63 - 1),
    reduce_only=st.booleans(),
    bracket=st.text(),
)


@settings(max_examples=50, deadline=None)
@given(_sent)
def test_an_order_comes_out_of_its_message_as_it_went_in(sent: OrderRequest) -> None:
    message = pb.OrderRequest.FromString(message_of(sent, pb.OrderRequest).SerializeToString())
    assert struct_of(message, OrderRequest) == sent


def test_the_messages_have_the_fields_of_the_model() -> None:
    """A field added on one side alone would be lost on the way, unseen."""
    from strategy_runner.model.fill import Fill
    from strategy_runner.model.order import OrderReport
    from strategy_runner.model.position import Position

    for struct, message in (
        (OrderRequest, pb.OrderRequest),
        (OrderChange, pb.OrderChange),
        (OrderReport, pb.OrderReport),
        (Fill, pb.Fill),
        (OmsEvent, pb.OmsEvent),
        (Position, pb.Position),
    ):
        assert set(struct.__struct_fields__) == {field.name for field in message.DESCRIPTOR.fields}, struct.__name__

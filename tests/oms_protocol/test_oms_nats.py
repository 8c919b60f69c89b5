"""Fills and positions over NATS JetStream, through a real server that is killed: dense, each once, and positions that add up."""

import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path

import msgspec
import pytest
from grpc_venue import GrpcVenue
from nats_server import NatsServer
from oms.venue import VenueBackend
from orders import eventually, order
from wire import sinkhole, way_to

from strategy_runner.errors import StateError
from strategy_runner.model.instrument import Instrument
from strategy_runner.model.order import OmsEvent, OrderRequest, OrderState, signed
from strategy_runner.oms.grpc import GrpcOms
from strategy_runner.oms.interface import EventsUnavailable, OmsUnavailable
from strategy_runner.oms.nats import NatsFeed
from strategy_runner.oms.nats_connection import NatsConnection
from strategy_runner.oms.nats_names import STREAM, bucket_of, position_key, subject_of
from strategy_runner.oms.nats_oms import NatsOms
from strategy_runner.oms.nats_publisher import NatsPublisher, told_events

INSTRUMENTS = {
    symbol: Instrument(
        symbol=symbol,
        asset_class="crypto",
        currency="USD",
        tick_size=Decimal("0.01"),
        lot_size=Decimal("0.01"),
    )
    for symbol in ("BTC-USD", "BRK.B")
}

Connect = Callable[[], NatsConnection]


@pytest.fixture
def server(folder: Path) -> Iterator[NatsServer]:
    server = NatsServer(folder)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def connect(server: NatsServer) -> Iterator[Connect]:
    made: list[NatsConnection] = []

    def make() -> NatsConnection:
        made.append(NatsConnection(server.url, timeout_s=2.0))
        return made[-1]

    yield make
    for connection in made:
        connection.close()


@pytest.fixture
def venue(folder: Path) -> VenueBackend:
    return VenueBackend(folder / "venue.log", fills=True)


def trade(venue: VenueBackend, orders: int, client: str = "acme") -> list[OmsEvent]:
    """Two events for each order: acknowledged and filled. All events so far."""
    sent: list[OrderRequest] = []
    for index in range(orders):
        symbol = ("BTC-USD", "BRK.B")[index % 2]
        side = ("buy", "buy", "sell")[index % 3]
        sent.append(order(client, symbol=symbol, side=side, quantity=Decimal(index + 1) / 100))
    venue.submit(client, sent)
    return venue.events(client, 0, 10_000)


def read(feed: NatsFeed, from_number: int, until: int) -> list[OmsEvent]:
    """As a router reads: again and again, from where it is."""
    events: list[OmsEvent] = []

    def has_all() -> bool:
        if feed.wait(100):
            events.extend(feed.events(from_number + len(events), 7))
        return len(events) >= until

    eventually(has_all, f"{until} events")
    return events


def held(events: list[OmsEvent]) -> dict[str, Decimal]:
    """Quantity per symbol, summed up from the fills."""
    totals: dict[str, Decimal] = {}
    for event in events:
        if event.fill is not None:
            totals[event.fill.symbol] = totals.get(event.fill.symbol, Decimal(0)) + signed(
                event.fill.side, event.fill.quantity
            )
    return totals


def test_events_arrive_in_order_and_each_once_and_positions_follow_from_the_fills(
    connect: Connect, venue: VenueBackend
) -> None:
    events = trade(venue, 20)
    publisher = NatsPublisher(connect(), "acme", INSTRUMENTS)
    publisher.publish(events[:25])
    publisher.publish(events)  # what was told is passed over
    assert publisher.next_number() == 40
    other = NatsPublisher(connect(), "other", INSTRUMENTS)
    other.publish(trade(venue, 3, "other"))
    feed = NatsFeed(connect(), "acme")
    assert read(feed, 0, 40) == events
    assert feed.events(40, 10) == []
    assert not feed.wait(50)
    positions = {position.symbol: position for position in feed.positions()}
    assert {symbol: position.quantity for symbol, position in positions.items()} == held(events)
    fees = sum(Decimal("0.01") for event in events if event.fill and event.fill.symbol == "BRK.B")
    assert positions["BRK.B"].fees == fees
    feed.close()


def test_a_connection_whose_server_has_gone_closes_and_leaves_no_thread(server: NatsServer) -> None:
    connection = NatsConnection(server.url, timeout_s=2.0)
    connection.run(connection.stream)
    before = threading.active_count()
    server.kill()
    with pytest.raises(OmsUnavailable, match=re.escape(server.url) + ": .+"):
        connection.run(partial(_told, connection))
    connection.close()
    assert threading.active_count() == before - 1


def test_an_oms_whose_events_cannot_be_heard_answers_all_the_same(
    server: NatsServer, connect: Connect, folder: Path, venue: VenueBackend
) -> None:
    """One silence is told from the other: with this one exits may leave."""
    asked = GrpcVenue(VenueBackend(folder / "asked.log"))
    asked.start()
    oms = NatsOms(GrpcOms("acme", asked.address, timeout_s=5.0), NatsConnection(server.url, timeout_s=2.0), "acme")
    NatsPublisher(connect(), "acme", INSTRUMENTS).publish(trade(venue, 1))
    eventually(lambda: len(oms.events(0, 10)) == 2, "the events")
    server.kill()
    with pytest.raises(EventsUnavailable, match=re.escape(server.url)):
        oms.events(2, 10)
    (report,) = oms.submit([order()])
    assert report.state is OrderState.ACKNOWLEDGED
    assert oms.cancel(report.client_order_id).state is OrderState.CANCELLED
    oms.close()
    asked.stop()


def test_a_server_killed_again_and_again_loses_and_doubles_nothing(
    server: NatsServer, connect: Connect, venue: VenueBackend
) -> None:
    publisher, feed = NatsPublisher(connect(), "acme", INSTRUMENTS), NatsFeed(connect(), "acme")
    seen: list[OmsEvent] = []
    events: list[OmsEvent] = []
    for round_ in range(2):
        events = trade(venue, 5)
        if round_ % 2:
            eventually(partial(_published, publisher, events), "the events to be told")
            server.kill()
            server.start()
        else:
            server.kill()
            with pytest.raises(OmsUnavailable):
                publisher.publish(events)
            server.start()
            eventually(partial(_published, publisher, events), "the events to be told")
        seen += read(feed, len(seen), len(events) - len(seen))
    assert seen == events
    assert [event.number for event in seen] == list(range(20))
    kept = {position.symbol: position.quantity for position in eventually(feed.positions, "positions")}
    assert kept == held(events)
    feed.close()


def test_a_connection_that_passes_nothing_on_any_more_is_replaced(
    server: NatsServer, connect: Connect, venue: VenueBackend
) -> None:
    """It stands, so nobody is told that it is dead; for minutes no event came, and no order went."""
    NatsPublisher(connect(), "acme", INSTRUMENTS).publish(trade(venue, 2))
    with sinkhole(server.port) as (port, frozen):
        connection = NatsConnection(f"nats://127.0.0.1:{port}", timeout_s=1.0)
        feed = NatsFeed(connection, "acme")
        assert len(read(feed, 0, 4)) == 4
        frozen.set()
        with pytest.raises(OmsUnavailable):
            feed.positions()
        NatsPublisher(connect(), "acme", INSTRUMENTS).publish(trade(venue, 1))
        assert len(read(feed, 4, 2)) == 2
        feed.close()
        connection.close()


def test_an_answer_that_got_lost_makes_no_second_event(connect: Connect, venue: VenueBackend) -> None:
    """The publisher dies between telling and knowing that it was told: the next one asks the stream."""
    events = trade(venue, 4)
    NatsPublisher(connect(), "acme", INSTRUMENTS).publish(events[:5])
    successor = NatsPublisher(connect(), "acme", INSTRUMENTS)
    assert successor.next_number() == 5
    successor.publish(events)
    feed = NatsFeed(connect(), "acme")
    assert read(feed, 0, 8) == events
    assert {position.symbol: position.quantity for position in feed.positions()} == held(events)
    feed.close()


def test_of_two_publishers_one_cannot_tell_what_the_other_has_told(connect: Connect, venue: VenueBackend) -> None:
    events = trade(venue, 3)
    first, second = (NatsPublisher(connect(), "acme", INSTRUMENTS) for _ in range(2))
    first.publish(events[:1])
    assert second.next_number() == 1
    second.publish(events[:3])
    with pytest.raises(StateError, match="event 1 was told before, and was another one"):
        first.publish([msgspec.structs.replace(events[1], event_ns=7)])
    first.publish(events)  # it has looked again and goes on behind the other
    feed = NatsFeed(connect(), "acme")
    assert read(feed, 0, 6) == events
    feed.close()


def test_what_follows_another_message_than_was_thought_is_not_taken(connect: Connect, venue: VenueBackend) -> None:
    """Beyond the time for which JetStream remembers ids, the place of an event in the stream still keeps it single."""
    events = trade(venue, 3)
    connection = connect()
    publisher = NatsPublisher(connection, "acme", INSTRUMENTS)
    publisher.publish(events[:1])

    async def tell() -> None:
        await (await connection.stream()).publish(subject_of("acme"), msgspec.msgpack.encode(events[1]))

    connection.run(tell)
    with pytest.raises(OmsUnavailable, match="wrong last sequence"):
        publisher.publish(events)
    publisher.publish(events)
    feed = NatsFeed(connect(), "acme")
    assert read(feed, 0, 6) == events
    feed.close()


@pytest.mark.parametrize("spoilt", [b"ac\xff\xfe", b"\x91" * 3_000], ids=["no text", "nested deeply"])
def test_what_is_no_event_or_position_is_said_and_not_passed_over_in_silence(connect: Connect, spoilt: bytes) -> None:
    """It ended the pulling, and nothing was ever heard again."""
    connection = connect()
    payload = b"\x81\xa6client" + (b"\xa4" + spoilt if len(spoilt) == 4 else spoilt)

    async def tell() -> None:
        stream = await connection.stream()
        await stream.publish(subject_of("acme"), payload)
        bucket = await stream.create_key_value(bucket=bucket_of("acme"))
        await bucket.put("main", payload)

    NatsPublisher(connection, "acme", INSTRUMENTS).publish([])
    connection.run(tell)
    feed = NatsFeed(connect(), "acme")
    with pytest.raises(StateError, match="expected a KeptPosition"):
        feed.positions()
    with pytest.raises(StateError, match="expected an OmsEvent"):
        eventually(lambda: feed._fault and feed.events(0, 10), "a word about the message")
    feed.close()


def test_a_gap_is_not_told(connect: Connect, venue: VenueBackend) -> None:
    events = trade(venue, 3)
    publisher = NatsPublisher(connect(), "acme", INSTRUMENTS)
    publisher.publish(events[:2])
    with pytest.raises(StateError, match="expected event 2, found 4"):
        publisher.publish(events[4:])


def test_positions_that_were_lost_are_made_again_from_the_fills(connect: Connect, venue: VenueBackend) -> None:
    events = trade(venue, 300)
    connection = connect()
    NatsPublisher(connection, "acme", INSTRUMENTS).publish(events)

    async def lose() -> None:
        await (await connection.stream()).delete_key_value(bucket_of("acme"))

    connection.run(lose)
    feed = NatsFeed(connect(), "acme")
    assert feed.positions() == []
    assert NatsPublisher(connect(), "acme", INSTRUMENTS).next_number() == 600
    assert {position.symbol: position.quantity for position in feed.positions()} == held(events)
    feed.close()


def test_positions_are_all_there_also_where_the_server_is_slow_to_hand_out_what_is_watched(
    server: NatsServer, connect: Connect, venue: VenueBackend
) -> None:
    """Found by watching, there were none now and then, as if nothing was held."""
    events = trade(venue, 4)
    NatsPublisher(connect(), "acme", INSTRUMENTS).publish(events)
    with holding_back(server, f"$KV.{bucket_of('acme')}.") as url:
        connection = NatsConnection(url, timeout_s=2.0)
        feed = NatsFeed(connection, "acme")
        assert {position.symbol: position.quantity for position in feed.positions()} == held(events)
        feed.close()
        connection.close()


def test_a_hundred_positions_are_had_from_a_distant_server_in_time(
    server: NatsServer, connect: Connect, venue: VenueBackend
) -> None:
    """Asked for one after the other they took longer than a call may, and nothing could ever be reconciled."""
    venue.submit("acme", [order(account=f"account-{number}") for number in range(100)])
    NatsPublisher(connect(), "acme", INSTRUMENTS).publish(venue.events("acme", 0, 1_000))
    with distant(server.port, seconds=0.02) as port:
        connection = NatsConnection(f"nats://127.0.0.1:{port}", timeout_s=2.0)
        connection.run(partial(_told, connection))
        feed = NatsFeed(connection, "acme")
        assert len({position.account for position in feed.positions()}) == 100
        feed.close()
        connection.close()


@contextmanager
def distant(port: int, *, seconds: float) -> Iterator[int]:
    """A way to a port on which everything takes its time, in each direction."""
    with way_to(port, lambda connection, is_answer: time.sleep(seconds)) as (way, _):
        yield way


def test_positions_wait_for_the_events_that_made_them(
    server: NatsServer, connect: Connect, venue: VenueBackend
) -> None:
    """Else what is still on its way is a difference to the OMS, and who accepts it has its fills twice when they come."""
    NatsPublisher(connect(), "acme", INSTRUMENTS).publish(trade(venue, 4))
    with holding_back(server, subject_of("acme")) as url:
        connection = NatsConnection(url, timeout_s=2.0)
        feed = NatsFeed(connection, "acme")
        assert feed.events(0, 10) == []
        with pytest.raises(OmsUnavailable, match="expected event 0 of 8, found none"):
            feed.positions()
        feed.close()
        connection.close()
    feed = NatsFeed(connect(), "acme")
    assert feed.events(0, 10) in ([], venue.events("acme", 0, 10))
    assert feed.positions()
    assert feed.events(0, 10), "some have come by then"
    feed.close()


def test_events_that_the_stream_has_lost_are_missed_aloud(
    connect: Connect, venue: VenueBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was heard any more, and nobody was told."""
    monkeypatch.setattr("strategy_runner.oms.nats.LOST_S", 0.5)
    connection = connect()
    NatsPublisher(connection, "acme", INSTRUMENTS).publish(trade(venue, 10))

    async def lose() -> None:
        await (await connection.stream()).purge_stream(STREAM, seq=6)

    connection.run(lose)
    feed = NatsFeed(connect(), "acme")
    found: list[str] = []

    def complains() -> bool:
        try:
            return bool(feed.events(0, 10))
        except OmsUnavailable as missing:
            found.append(str(missing))
            return True

    eventually(complains, "a word about what is missing")
    assert found == [f"{STREAM} acme: expected event 0 of 20, found none"]
    feed.close()


@contextmanager
def holding_back(server: NatsServer, prefix: str) -> Iterator[str]:
    """A way to the server on which messages of subjects with this prefix do not come through."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=_hold_back, args=(listening, server.port, prefix))
        thread.start()
        yield f"nats://127.0.0.1:{listening.getsockname()[1]}"
        thread.join()


def _hold_back(listening: socket.socket, port: int, prefix: str) -> None:
    """Serves one client until it hangs up."""
    client, _ = listening.accept()
    with client, socket.create_connection(("127.0.0.1", port)) as server:
        back = threading.Thread(target=_pass_messages, args=(server, client, prefix))
        back.start()
        while asked := client.recv(1 << 16):
            server.sendall(asked)
        server.shutdown(socket.SHUT_RDWR)
        back.join()


def _pass_messages(server: socket.socket, client: socket.socket, prefix: str) -> None:
    with server.makefile("rb") as stream:
        for line in stream:
            words = line.decode().split()
            # MSG and HMSG end with the length of what follows them and a line's end
            body = stream.read(int(words[-1]) + 2) if words[0] in ("MSG", "HMSG") else b""
            if not (body and words[1].startswith(prefix)):
                client.sendall(line + body)


def test_a_reader_that_dies_is_followed_by_one_that_reads_from_its_cursor(
    connect: Connect, venue: VenueBackend
) -> None:
    events = trade(venue, 10)
    NatsPublisher(connect(), "acme", INSTRUMENTS).publish(events)
    first_connection = connect()
    first = NatsFeed(first_connection, "acme")
    assert read(first, 0, 14) == events[:14]
    eventually(lambda: first.events(9, 3) == events[9:12], "the cursor to pass nine")
    first.close()  # it had got all twenty, and only nine of them are behind its cursor
    second = NatsFeed(connect(), "acme")
    assert read(second, 9, 11) == events[9:]
    second.close()


def test_a_cursor_that_was_set_back_gets_everything_again(connect: Connect, venue: VenueBackend) -> None:
    events = trade(venue, 5)
    NatsPublisher(connect(), "acme", INSTRUMENTS).publish(events)
    feed = NatsFeed(connect(), "acme")
    assert read(feed, 0, 10) == events
    assert feed.events(10, 5) == []
    eventually(lambda: feed.events(3, 7) == events[3:], "the events again")
    feed.close()


def test_a_message_that_is_no_event_stops_the_reader(connect: Connect, venue: VenueBackend) -> None:
    NatsPublisher(connect(), "acme", INSTRUMENTS).publish(trade(venue, 1))
    connection = connect()

    async def tell() -> None:
        await (await connection.stream()).publish(subject_of("acme"), b"\xc1")

    connection.run(tell)
    feed = NatsFeed(connect(), "acme")

    def is_refused() -> bool:
        try:
            feed.events(0, 10)
        except StateError as error:
            return f"{STREAM}: expected an OmsEvent" in str(error)
        return False

    eventually(is_refused, "an error")
    feed.close()


def test_a_server_that_comes_late_is_found(folder: Path, venue: VenueBackend) -> None:
    server = NatsServer(folder)
    connection = NatsConnection(server.url, timeout_s=0.3)
    feed, publisher = NatsFeed(connection, "acme"), NatsPublisher(connection, "acme", INSTRUMENTS)
    with pytest.raises(OmsUnavailable):
        feed.events(0, 10)
    server.start()
    try:
        events = trade(venue, 2)
        eventually(partial(_published, publisher, events), "the events to be told")
        assert read(feed, 0, 4) == events
    finally:
        feed.close()
        connection.close()
        server.kill()


def test_every_position_has_a_key_of_its_own() -> None:
    names = [("a.b", "c", "d"), ("a", "b.c", "d"), ("a", "b", "c.d"), ("a=2Eb", "c", "d"), ("ä", "b", "^X")]
    keys = [position_key(*name) for name in names]
    assert len(set(keys)) == len(names)
    assert all(key.isascii() and set(key) <= set(_KEY_CHARACTERS) and key.count(".") == 2 for key in keys)


def test_without_the_extra_the_error_names_it() -> None:
    hide = "import sys; sys.modules['nats'] = None; import strategy_runner.oms.nats"
    ended = subprocess.run([sys.executable, "-c", hide], capture_output=True, text=True, check=False)
    assert "ConfigurationError" in ended.stderr
    assert "install strategy-runner[nats]" in ended.stderr


_KEY_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=."


async def _told(connection: NatsConnection) -> int:
    return await told_events(await connection.stream(), "acme")


def _published(publisher: NatsPublisher, events: list[OmsEvent]) -> bool:
    publisher.publish(events)
    return True

"""An OMS that is asked over gRPC and tells its events and positions over NATS JetStream. Needs the extras [grpc] and [nats]."""

from strategy_runner.model.order import OmsEvent
from strategy_runner.oms.interface import EventsUnavailable, Oms, OmsUnavailable
from strategy_runner.oms.nats import NatsFeed
from strategy_runner.oms.nats_connection import NatsConnection


class NatsOms:
    """Implements oms/interface.py's Oms. Positions are those of the events that were told: they come by one way, and
    agree."""

    def __init__(self, oms: Oms, connection: NatsConnection, client: str) -> None:
        """Both are closed with it."""
        self._oms = oms
        self._connection = connection
        self._feed = NatsFeed(connection, client)
        self.submit = oms.submit
        self.modify = oms.modify
        self.cancel = oms.cancel
        self.query = oms.query
        self.open_orders = oms.open_orders
        self.positions = self._feed.positions
        self.wait = self._feed.wait
        self.wake = self._feed.wake

    def events(self, from_number: int, limit: int) -> list[OmsEvent]:
        """Raises EventsUnavailable: who is asked may answer all the same."""
        try:
            return self._feed.events(from_number, limit)
        except OmsUnavailable as error:
            raise EventsUnavailable(str(error)) from error

    def close(self) -> None:
        self._feed.close()
        self._connection.close()
        self._oms.close()

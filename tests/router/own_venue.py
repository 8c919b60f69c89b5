"""A venue in the test's own process, over the real protocol: quick to begin, and its faults can be had by the hundred."""

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

from oms.venue import FaultyCalls, Told, VenueBackend
from router.desk import CLIENT

from strategy_runner.bus.call import CallServer
from strategy_runner.bus.context import new_context
from strategy_runner.bus.news import NewsPublisher
from strategy_runner.model.order import OmsEvent
from strategy_runner.oms.protocol import REQUEST_BYTES_MAX, news_endpoint
from strategy_runner.oms.server import OmsServer


class OwnVenue:
    """It places an order as often as it is sent, so that sending blindly twice would show."""

    def __init__(self, root: Path, *, fills: bool) -> None:
        self._context = new_context()
        self.endpoint = f"ipc://{root}/venue.sock"
        self.backend = VenueBackend(root / "venue.log", fills=fills, dedupe=False)
        calls = CallServer(self._context, self.endpoint, frame_bytes_max=REQUEST_BYTES_MAX)
        self.calls = FaultyCalls(calls, self.backend)
        self.server = OmsServer(self._context, self.backend, name="venue")
        news = NewsPublisher(self._context, news_endpoint(self.endpoint))
        self.server.serve_at(CLIENT, self.calls, news)  # type: ignore[arg-type]  # a CallServer to all who use it

    @property
    def placed(self) -> dict[str, int]:
        """How many orders were placed, by client order id."""
        return dict(self.backend.placed)

    def fill(self, order_id: str, quantity: Decimal | None = None) -> None:
        """Fully, or by so much."""
        self.backend.fill(CLIENT, order_id, quantity)
        self.server.on_news(CLIENT, self.backend.last_number(CLIENT))

    def tell(self, event: OmsEvent) -> None:
        """As if it had happened."""
        with self.backend._lock:
            self.backend._keep(Told(event))
        self.server.on_news(CLIENT, self.backend.last_number(CLIENT))

    def close(self) -> None:
        self.server.stop()
        self._context.destroy(linger=0)


@contextmanager
def venue_in(root: Path, *, fills: bool = False) -> Iterator[OwnVenue]:
    venue = OwnVenue(root, fills=fills)
    try:
        yield venue
    finally:
        venue.close()

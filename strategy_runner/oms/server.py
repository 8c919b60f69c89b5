"""The server: carries the OMS protocol for a backend, with one line for each client, so that none waits for another's disk."""

from strategy_runner.bus.call import CallServer
from strategy_runner.bus.context import Context
from strategy_runner.bus.news import NewsPublisher
from strategy_runner.oms.backend import Backend
from strategy_runner.oms.line import Line
from strategy_runner.oms.protocol import REQUEST_BYTES_MAX, news_endpoint


class OmsServer:
    """Belongs to one thread, but for `on_news`. The lines work by themselves; `check` is to be called now and then."""

    def __init__(self, context: Context, backend: Backend, *, name: str) -> None:
        """`name` is what the OMS calls itself."""
        self._context = context
        self._backend = backend
        self._name = name
        self._lines: dict[str, Line] = {}
        self._fault: Exception | None = None

    @property
    def clients(self) -> frozenset[str]:
        return frozenset(self._lines)

    def serve(self, client: str, endpoint: str) -> None:
        """Opens a client's line. Its news is told at `news_endpoint(endpoint)`."""
        calls = CallServer(self._context, endpoint, frame_bytes_max=REQUEST_BYTES_MAX)
        self.serve_at(client, calls, NewsPublisher(self._context, news_endpoint(endpoint)))

    def serve_at(self, client: str, calls: CallServer, news: NewsPublisher) -> None:
        """As `serve`, at sockets that are there already."""
        assert client not in self._lines, client
        self._lines[client] = Line(
            client, self._backend, name=self._name, calls=calls, news=news, on_fault=self._note_fault
        )

    def dismiss(self, client: str) -> None:
        """Closes a client's line; its orders stay as they are."""
        self._lines.pop(client).stop()

    def on_news(self, client: str, number: int) -> None:
        """The backend has events of a client below `number`. From any thread."""
        line = self._lines.get(client)
        if line is not None:
            line.ring()

    def check(self) -> None:
        """Raises what a line ended with: the backend can no longer be trusted, and the process must end."""
        if self._fault is not None:
            raise self._fault

    def stop(self) -> None:
        """Closes every line."""
        for client in list(self._lines):
            self.dismiss(client)

    def _note_fault(self, error: Exception) -> None:
        self._fault = self._fault or error

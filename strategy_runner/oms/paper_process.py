"""The paper OMS as a process: the book-keeping of all clients (paper.py) and the server that carries the protocol to them,
driven together by the one loop.
"""

from pathlib import Path

from strategy_runner.bus.context import Context
from strategy_runner.bus.doorbell import StreamListener
from strategy_runner.config.spec import PaperOmsSpec
from strategy_runner.oms.paper import PaperOms
from strategy_runner.oms.server import OmsServer
from strategy_runner.tape.reader import TapeReader
from strategy_runner.tape.status import StatusFile

NAME = "paper"


class PaperProcess:
    """The agent: `turn`, `wait` and `stop` for the loop, `reload` for a spec with other clients or instruments."""

    def __init__(self, spec: PaperOmsSpec, context: Context, status: StatusFile) -> None:
        """Raises StrategyRunnerError, OSError."""
        self._oms = PaperOms(
            Path(spec.folder),
            tuple(spec.endpoints),
            instruments=spec.instruments,
            default=spec.fills,
            reader=TapeReader(Path(spec.market.tape)),
            listener=StreamListener(spec.market.doorbell, ()),
            status=status,
            settings=spec.fills_by_symbol,
            opening=spec.opening,
        )
        self._server = OmsServer(context, self._oms, name=NAME)
        self._oms.on_news = self._server.on_news
        for client, endpoint in spec.endpoints.items():
            if client not in self._oms.unopened:
                self._server.serve(client, endpoint)

    def turn(self) -> int:
        """Raises what a client's line ended with."""
        self._server.check()
        return self._oms.turn()

    def wait(self) -> None:
        self._oms.wait()

    def reload(self, spec: PaperOmsSpec) -> None:
        """Takes clients that are new and closes the lines of those that left; nobody else notices."""
        self._oms.set_terms(spec.instruments, spec.fills, spec.fills_by_symbol)
        for client in self._server.clients - spec.endpoints.keys():
            self._server.dismiss(client)
        for client in sorted(spec.endpoints.keys() - self._server.clients - self._oms.unopened.keys()):
            self._oms.open_book(client, spec.opening.get(client, {}))
            self._server.serve(client, spec.endpoints[client])

    def stop(self) -> None:
        self._server.stop()
        self._oms.stop()
        self._oms.close()

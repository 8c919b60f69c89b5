"""The bookkeeper: a second process that keeps what a run flat out leaves behind, which the strategy waits for no more.

Signals get their canonical form there, are hashed and written. An order that stands alone is filled by the worker itself, at
once; what the fill changes (fees, cash, position, an entry of the fill log) is counted here, until the first order that needs
the book (a bracket, a limit, a change) brings the state back for good. Half of what a signal costs is done on a core of its own
by that.

It ends with its worker, and has no memory of its own: a run that is repeated derives the same again, as it does without it.
"""

import pickle
import signal
from contextlib import suppress
from fcntl import F_SETPIPE_SZ, fcntl
from multiprocessing import get_context
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

import msgspec

from strategy_runner.errors import StateError
from strategy_runner.oms.paper_book import LoneFills
from strategy_runner.worker.outbox import Outbox, Pending
from strategy_runner.worker.paper import DeskState, PaperDesk
from strategy_runner.worker.paper_log import PaperLog

_PIPE_BYTES = 1 << 20  # what any user may ask for: room for some blocks, so that the worker does not wait

Counted = tuple[PaperDesk, PaperLog]

_encode = msgspec.msgpack.Encoder().encode


class _Signals(msgspec.Struct, array_like=True, tag=1):
    pending: list[Pending]


class _Fills(msgspec.Struct, array_like=True, tag=2):
    filled: LoneFills


class _Begin(msgspec.Struct, array_like=True, tag=3):
    """Fills are counted from here on: the pickled state of the desk, and the place in its log."""

    state: bytes
    offset: int


class _HandBack(msgspec.Struct, array_like=True, tag=4):
    """Fills are counted no more."""


class _End(msgspec.Struct, array_like=True, tag=5):
    """Nothing comes any more."""


_Order = _Signals | _Fills | _Begin | _HandBack | _End
_decode = msgspec.msgpack.Decoder(_Order).decode


class Bookkeeper:
    """Keeps signals for `outbox` while the block lasts, and the fills of `counted`, a desk whose entries belong into a log, from
    `begin_counting` on; None where there are none that may be counted apart.

    Every call raises what the process has failed with, such as a DivergenceError or an OSError; a StateError if it was killed.
    """

    def __init__(self, outbox: Outbox, counted: Counted | None) -> None:
        """Forks: to be made while the worker has one thread. Raises OSError where there may be no process more."""
        self._outbox, self._counted = outbox, counted
        self._failure: Exception | None = None
        self._has_counted = False
        context = get_context("fork")
        orders, self._orders = context.Pipe(duplex=False)
        self._answers, answers = context.Pipe(duplex=False)
        with suppress(PermissionError):  # of a user who has many pipes
            fcntl(self._orders.fileno(), F_SETPIPE_SZ, _PIPE_BYTES)
        books = _Books(orders, answers, outbox, counted)
        self._process = context.Process(target=books.keep, args=(self._orders, self._answers), daemon=True)
        self._process.start()
        orders.close()
        answers.close()
        outbox.write_elsewhere(self)

    def begin_counting(self) -> None:
        """From now on, unless it was asked for before. Whatever was told of fills is to be recorded."""
        if self._counted is None or self._has_counted:
            return
        self._has_counted = True
        desk, log = self._counted
        log.flush()
        self._send(_Begin(pickle.dumps(desk.count_elsewhere(self)), log.offset))

    def write(self, pending: list[Pending]) -> None:
        self._send(_Signals(pending))

    def end_writing(self) -> int:
        self._send(_End())
        offset: int = self._answer()
        return offset

    def count(self, filled: LoneFills) -> None:
        self._send(_Fills(filled))

    def end_counting(self) -> DeskState:
        assert self._counted is not None, "only a desk that has begun comes back"
        self._send(_HandBack())
        state: DeskState
        state, offset = self._answer()
        self._counted[1].go_on(offset)
        return state

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._counted is not None:
                self._counted[0].come_back()
        finally:
            try:
                self._outbox.come_back()
            finally:
                self._orders.close()
                self._process.join()
                self._answers.close()

    def _send(self, order: _Order) -> None:
        try:
            self._orders.send_bytes(_encode(order))
        except ConnectionError:
            self._answer()  # why nobody reads any more
            raise

    def _answer(self) -> Any:
        answer = self._failure
        try:
            answer = answer or self._answers.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            code = self._process.exitcode
            answer = StateError(f"{self._outbox.path}: expected the process that writes it, found it ended ({code})")
        if isinstance(answer, Exception):
            self._failure = answer
            raise answer
        return answer


class _Books:
    """The second process."""

    def __init__(self, orders: Connection, answers: Connection, outbox: Outbox, counted: Counted | None) -> None:
        self._orders, self._answers = orders, answers
        self._outbox, self._counted = outbox, counted

    def keep(self, *workers_ends: Connection) -> None:
        for end in workers_ends:
            end.close()  # so that the worker's own is the only one, and its end is seen
        for number in (signal.SIGINT, signal.SIGTERM):  # meant for the worker
            signal.signal(number, signal.SIG_IGN)
        with suppress(EOFError, ConnectionError):  # the worker is gone
            self._answers.send(self._outcome())

    def _outcome(self) -> int | Exception:
        """The log's end, or what the worker is to raise. Raises EOFError, ConnectionError if there is no worker any more."""
        try:
            return self._keep()
        except (EOFError, ConnectionError):
            raise
        except Exception as error:
            return error

    def _keep(self) -> int:
        """Returns the log's end at the end."""
        while not isinstance(order := _decode(self._orders.recv_bytes()), _End):
            if isinstance(order, _Signals):
                self._outbox.write(order.pending)
            else:
                assert self._counted is not None, order
                self._count(order, *self._counted)
        return self._outbox.end

    def _count(self, order: _Fills | _Begin | _HandBack, desk: PaperDesk, log: PaperLog) -> None:
        if isinstance(order, _Fills):
            for told in desk.count(order.filled):
                log.record(told.payload)
            log.flush()
        elif isinstance(order, _Begin):
            desk.restore(pickle.loads(order.state))
            log.go_on(order.offset)
        else:
            self._answers.send((desk.state(), log.offset))

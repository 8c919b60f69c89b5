"""A line: one client's way into an OMS, a thread that answers what comes in at the client's socket and tells its events.

The socket is the client: its file lies in a folder of its owner, and what comes in there can touch this client's orders
alone. Questions meet the backend one after the other, in the order in which they came. So once a session is opened, no
question of an earlier one will be executed any more, wherever it may still be on its way.
"""

import secrets
import threading
import time
from collections.abc import Callable

from strategy_runner.bus.call import CallServer, Route, wait_for_any
from strategy_runner.bus.news import NewsPublisher
from strategy_runner.bus.wake import Wake
from strategy_runner.oms.admission import admit
from strategy_runner.oms.backend import Backend
from strategy_runner.oms.protocol import (
    ANSWER_BYTES_MAX,
    BEAT_S,
    EVENTS_MAX,
    TRADING,
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
    Reply,
    Reports,
    Request,
    Submit,
    Welcome,
    decode,
    encode,
    number_of,
    topic_of,
)
from strategy_runner.oms.refusal import OmsRefused

_REQUESTS_PER_TURN = 100  # then events are told, and the next are taken


class Line:
    """Runs from its construction until `stop`, or until the backend fails: then `on_fault` is called with the error."""

    def __init__(
        self,
        client: str,
        backend: Backend,
        *,
        name: str,
        calls: CallServer,
        news: NewsPublisher,
        on_fault: Callable[[Exception], None],
    ) -> None:
        """`name` is what the OMS calls itself. The sockets are the line's from here on."""
        self._client = client
        self._backend = backend
        self._name = name
        self._calls = calls
        self._news = news
        self._on_fault = on_fault
        self._topic = topic_of(client)
        self._told = backend.last_number(client)  # what happened before is asked for by whoever missed it
        self._run_id = secrets.token_hex(8)  # no session outlives the process that opened it
        self._sessions = 0
        self._session = ""
        self._beat_at = 0.0
        self._wake = Wake()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"oms-{client}", daemon=True)
        self._thread.start()

    def ring(self) -> None:
        """There are events to tell. From any thread."""
        self._wake.ring()

    def stop(self) -> None:
        """Returns when the question being answered is answered and the sockets are closed."""
        self._stopping = True
        self._wake.ring()
        self._thread.join()
        self._wake.close()

    def _run(self) -> None:
        try:
            while not self._stopping:
                if not self._turn():
                    until_beat_ms = max(0, int((self._beat_at - time.monotonic()) * 1e3))
                    wait_for_any(until_beat_ms, self._calls.waitable, self._wake.waitable)
        except Exception as error:
            self._on_fault(error)
        finally:
            self._calls.close()
            self._news.close()

    def _turn(self) -> bool:
        """A bounded piece of work; False when there was none."""
        self._wake.hush()
        questions = self._calls.receive(_REQUESTS_PER_TURN)
        for route, question in questions:
            self._answer(route, question)
        return self._tell() or bool(questions)

    # -- answering -----------------------------------------------------------------------------------------------------

    def _answer(self, route: Route, question: bytes) -> None:
        number = 0
        try:
            request = decode(Request, question)
            number = request.number
            reply = self._reply(request)
        except OmsRefused as refused:
            reply = Refused(refused.code, refused.message)
        answer = encode(Answer(number=number or number_of(question), reply=reply))
        if len(answer) > ANSWER_BYTES_MAX:
            message = f"answer: expected at most {ANSWER_BYTES_MAX} bytes, found {len(answer)}"
            answer = encode(Answer(number=number, reply=Refused("too_large", message)))
        self._calls.answer(route, answer)

    def _reply(self, request: Request) -> Reply:
        if request.client != self._client:
            raise OmsRefused("foreign_client", f"expected {self._client}, found {request.client}")
        if isinstance(request.ask, Hello):
            return self._open_session()
        if request.session or isinstance(request.ask, TRADING):
            self._check_session(request.session)
        admit(request.ask, self._client)
        return self._execute(request.ask)

    def _open_session(self) -> Welcome:
        self._sessions += 1
        self._session = f"{self._run_id}-{self._sessions}"
        return Welcome(self._name, self._session, self._backend.last_number(self._client))

    def _check_session(self, session: str) -> None:
        if session and session == self._session:
            return
        if session.startswith(f"{self._run_id}-"):
            raise OmsRefused("superseded", f"expected the session {self._session}, found {session}")
        raise OmsRefused("no_session", f"expected a session opened by hello, found {session!r}")

    def _execute(self, ask: Ask) -> Reply:
        backend, client = self._backend, self._client
        match ask:
            case Submit(orders):
                return Reports(tuple(backend.submit(client, orders)))
            case Modify(change):
                return Reports((backend.modify(client, change),))
            case Cancel(client_order_id):
                return Reports((backend.cancel(client, client_order_id),))
            case Query(client_order_ids):
                return Reports(tuple(backend.query(client, client_order_ids)))
            case OpenOrders():
                return Reports(tuple(backend.open_orders(client)))
            case Positions():
                return Holdings(tuple(backend.positions(client)))
            case Events(from_number, limit):
                following = backend.last_number(client)
                if from_number > following:
                    raise OmsRefused("ahead", f"from_number: expected at most {following}, found {from_number}")
                return History(tuple(backend.events(client, from_number, limit)), following)
            case Hello():
                raise AssertionError("opens a session and executes nothing")

    # -- telling -------------------------------------------------------------------------------------------------------

    def _tell(self) -> bool:
        """True when there may be more to tell."""
        events = []
        if self._backend.last_number(self._client) > self._told:
            events = self._backend.events(self._client, self._told, EVENTS_MAX)
        for event in events:
            assert event.number == self._told, (event.number, self._told)
            self._news.tell(self._topic, encode(News(news=Happened(event))))
            self._told += 1
        now = time.monotonic()
        if now >= self._beat_at:
            self._news.tell(self._topic, encode(News(news=Beat(self._told))))
            self._beat_at = now + BEAT_S
        return bool(events)

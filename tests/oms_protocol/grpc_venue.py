"""An OMS over gRPC for tests: a real server in the test's process over the venue's backend, that fails when told to.

unavailable     the next submit is turned away before it is executed
lose_reply      the next submit is executed and then turned away, as by a proxy whose server went
late_request    the next submit is executed only after `LATE_S`
late_reply      the next submit is executed, and answered after `LATE_S`
"""

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from oms.venue import LATE_S, VenueBackend

from strategy_runner.model.order import OrderChange, OrderReport, OrderRequest
from strategy_runner.oms.admission import admit
from strategy_runner.oms.grpc_messages import message_of, struct_of
from strategy_runner.oms.proto import oms_pb2 as pb
from strategy_runner.oms.proto.oms_pb2_grpc import OmsServicer, add_OmsServicer_to_server
from strategy_runner.oms.protocol import BEAT_S, Submit
from strategy_runner.oms.refusal import OmsRefused

_STATUS = {
    "malformed": grpc.StatusCode.INVALID_ARGUMENT,
    "foreign_client": grpc.StatusCode.PERMISSION_DENIED,
    "ahead": grpc.StatusCode.OUT_OF_RANGE,
}


class GrpcVenue(OmsServicer):  # type: ignore[misc]
    """One client's OMS. `calls` counts submits that came in, tried again or not."""

    def __init__(
        self,
        backend: VenueBackend,
        client: str = "acme",
        *,
        token: str = "",
        credentials: grpc.ServerCredentials | None = None,
    ) -> None:
        self.backend = backend
        self.client = client
        self.calls = 0
        self.faults: deque[str] = deque()
        self.is_mute = False
        self._token = token
        self._credentials = credentials
        self._session = ""
        self._executing = threading.Lock()
        self._closing = threading.Event()
        self._server: grpc.Server | None = None
        self.port = 0

    def start(self) -> None:
        """The first time at any free port, then at the same again."""
        self._closing.clear()
        self._session = ""
        self._server = grpc.server(ThreadPoolExecutor(8))
        add_OmsServicer_to_server(self, self._server)
        if self._credentials is None:
            self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        else:
            self.port = self._server.add_secure_port(f"127.0.0.1:{self.port}", self._credentials)
        self._server.start()

    def stop(self) -> None:
        self._closing.set()
        assert self._server is not None
        self._server.stop(None).wait()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def OpenSession(self, request: Any, context: Any) -> Any:  # noqa: N802  named by oms.proto
        def answer() -> Any:
            self._session = secrets.token_hex(4)
            return pb.Session(oms="venue", session=self._session, next=self.backend.last_number(self.client))

        return self._execute(request, context, answer, needs_session=False)

    def Submit(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.calls += 1
        fault = self.faults.popleft() if self.faults else ""
        if fault == "unavailable":
            context.abort(grpc.StatusCode.UNAVAILABLE, "on purpose")
        if fault == "late_request":
            time.sleep(LATE_S)

        def answer() -> Any:
            orders = tuple(struct_of(each, OrderRequest) for each in request.orders)
            admit(Submit(orders), self.client)
            return _reports(self.backend.submit(self.client, orders))

        answered = self._execute(request, context, answer)
        if fault == "lose_reply":
            context.abort(grpc.StatusCode.UNAVAILABLE, "on purpose")
        if fault == "late_reply":
            time.sleep(LATE_S)
        return answered

    def Modify(self, request: Any, context: Any) -> Any:  # noqa: N802
        change = struct_of(request.change, OrderChange)
        return self._execute(request, context, lambda: _reports([self.backend.modify(self.client, change)]))

    def Cancel(self, request: Any, context: Any) -> Any:  # noqa: N802
        def answer() -> Any:
            return _reports([self.backend.cancel(self.client, request.client_order_id)])

        return self._execute(request, context, answer)

    def Query(self, request: Any, context: Any) -> Any:  # noqa: N802
        def answer() -> Any:
            found = self.backend.query(self.client, request.client_order_ids)
            return pb.QueryAnswer(found=[pb.Found(report=each and message_of(each, pb.OrderReport)) for each in found])

        return self._execute(request, context, answer)

    def OpenOrders(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._execute(request, context, lambda: _reports(self.backend.open_orders(self.client)))

    def Positions(self, request: Any, context: Any) -> Any:  # noqa: N802
        def answer() -> Any:
            positions = self.backend.positions(self.client)
            return pb.Holdings(positions=[message_of(each, pb.Position) for each in positions])

        return self._execute(request, context, answer)

    def Events(self, request: Any, context: Any) -> Any:  # noqa: N802
        def answer() -> Any:
            following = self.backend.last_number(self.client)
            if request.from_number > following:
                raise OmsRefused("ahead", f"expected at most {following}, found {request.from_number}")
            events = self.backend.events(self.client, request.from_number, request.limit)
            return pb.History(events=[message_of(each, pb.OmsEvent) for each in events], next=following)

        return self._execute(request, context, answer)

    def Watch(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        number = request.from_number
        while not self._closing.wait(BEAT_S / 4) and context.is_active():
            if self.is_mute:
                continue
            for event in self.backend.events(self.client, number, 100):
                yield pb.News(event=message_of(event, pb.OmsEvent))
                number = event.number + 1
            yield pb.News(next=number)

    def _execute(self, request: Any, context: Any, answer: Callable[[], Any], *, needs_session: bool = True) -> Any:
        try:
            with self._executing:  # one after the other, so that a new session ends the old one for certain
                if self._token and ("authorization", f"Bearer {self._token}") not in context.invocation_metadata():
                    raise OmsRefused("foreign_client", "expected this client's token")
                if request.client != self.client:
                    raise OmsRefused("foreign_client", f"expected {self.client}, found {request.client}")
                if needs_session and request.session != self._session:
                    raise OmsRefused("superseded" if self._session else "no_session", "expected the latest session")
                return answer()
        except OmsRefused as refused:
            context.set_trailing_metadata((("oms-code", refused.code),))
            context.abort(_STATUS.get(refused.code, grpc.StatusCode.FAILED_PRECONDITION), refused.message)


def _reports(reports: list[OrderReport]) -> Any:
    return pb.Reports(reports=[message_of(each, pb.OrderReport) for each in reports])

"""Request and answer: an answer, or an error that says what to do."""

import threading
import time

import pytest
import zmq

from strategy_runner.bus.context import Context
from strategy_runner.bus.request import REQUEST_BYTES_MAX, RequestServer, request
from strategy_runner.errors import NotRunningError, TimeoutExpiredError


def test_a_request_gets_its_answer(context: Context, endpoint: str) -> None:
    server = RequestServer(context, endpoint)
    asked: list[object] = []

    def serve() -> None:
        for _ in range(2):
            asked.append(server.receive(5_000))
            server.answer({"rows": [[1, None, 0.5, "é"]]})

    thread = threading.Thread(target=serve)
    thread.start()
    for value in ({"sql": "SELECT 1", "limit": 5}, "twice"):
        assert request(endpoint, value, 5.0) == {"rows": [[1, None, 0.5, "é"]]}
    thread.join()
    assert asked == [{"sql": "SELECT 1", "limit": 5}, "twice"]
    server.close()


def test_no_request_is_no_reason_to_wait(context: Context, endpoint: str) -> None:
    server = RequestServer(context, endpoint)
    assert server.receive(0) is None
    server.close()


def test_who_waits_for_a_request_can_be_woken_and_does_not_wait_again(context: Context, endpoint: str) -> None:
    server = RequestServer(context, endpoint)
    received: list[object] = []
    thread = threading.Thread(target=lambda: received.extend([server.receive(), server.receive()]), daemon=True)
    thread.start()
    server.wake()
    thread.join(30.0)
    assert received == [None, None]
    server.close()


def test_nobody_there_is_not_running(endpoint: str) -> None:
    started = time.monotonic()
    with pytest.raises(NotRunningError, match=f"{endpoint}: expected somebody who answers, found nobody listening"):
        request(endpoint, "anybody?", 0.2)
    assert time.monotonic() - started < 5.0


def test_somebody_who_does_not_answer_is_a_timeout(context: Context, endpoint: str) -> None:
    server = RequestServer(context, endpoint)
    with pytest.raises(TimeoutExpiredError, match=f"{endpoint}: expected an answer within 0.2 s, found none"):
        request(endpoint, "anybody?", 0.2)
    server.close()


def test_a_server_outlives_requests_that_are_none(context: Context, endpoint: str) -> None:
    """Not msgpack, no text, nested without end, two frames, a million bytes too long: the next one is served all the same."""
    server = RequestServer(context, endpoint)
    client = context.socket(zmq.REQ)
    client.connect(endpoint)
    for junk in ([b"\xc1"], [b"\xa2\xff\xfe"], [b"\x91" * 100_000], [b"\x80", b"\x80"]):
        client.send_multipart(junk)
        assert server.receive(5_000) is None
        assert client.poll(5_000)
        assert client.recv() == b"\xc0"
    long = context.socket(zmq.REQ)
    long.connect(endpoint)
    long.send(b"x" * (REQUEST_BYTES_MAX + 1))
    assert server.receive(200) is None
    thread = threading.Thread(target=lambda: server.answer(server.receive(5_000)))
    thread.start()
    assert request(endpoint, [1, 2], 5.0) == [1, 2]
    thread.join()
    server.close()

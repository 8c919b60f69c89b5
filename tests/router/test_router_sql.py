"""SQL through the router: answered while decisions flow, only reading, never for longer than its time."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from router.desk import Desk, Talker
from worker.processes import await_that

from strategy_runner.bus.context import new_context
from strategy_runner.bus.request import RequestServer, request
from strategy_runner.errors import TimeoutExpiredError, UsageError
from strategy_runner.router.delivery import Delivery
from strategy_runner.router.journal import decision_log
from strategy_runner.router.sql import LIMIT_ROWS_MAX, SqlService, answer, ask
from strategy_runner.sinks.duckdb_sink import DuckDbSink

FOREVER = "SELECT count(*) FROM range(10000000000) a, range(10000000000) b"


@pytest.fixture
def database(root: Path) -> Iterator[DuckDbSink]:
    opened = DuckDbSink(root / "signals.duckdb", "acme", lambda letter: None)
    yield opened
    opened.close()


@pytest.fixture
def endpoint(root: Path, database: DuckDbSink) -> Iterator[str]:
    """A service that gives each question half a second."""
    context, at = new_context(), f"ipc://{root}/sql.sock"
    service = SqlService(RequestServer(context, at), database, timeout_s=0.5)
    yield at
    service.stop()
    context.destroy(linger=0)


def test_it_answers_while_decisions_flow(root: Path, database: DuckDbSink, endpoint: str) -> None:
    desk, talker, asked = Desk(root), Talker(root), []
    desk.restart(Delivery("duckdb", lambda: database, decision_log(root / "router"), pause_s=0.0))
    done = threading.Event()

    def question() -> None:
        while not done.is_set():
            asked.append(ask(endpoint, "SELECT count(*) FROM signals", 10)[1][0][0])

    asking = threading.Thread(target=question)
    asking.start()
    for _ in range(60):
        talker.say()
        desk.decide()
    await_that(lambda: asked and asked[-1] == 60, "an answer that counts all")
    done.set()
    asking.join()
    desk.router.stop()
    desk.close()
    assert asked == sorted(asked)
    assert len(set(asked)) > 1, "some of the answers should come in between"


def test_columns_and_rows_come_back(endpoint: str) -> None:
    assert ask(endpoint, "SELECT 1 AS a, 'x' AS b, 1.5 AS c, NULL AS d", 10) == (
        ["a", "b", "c", "d"],
        [[1, "x", "1.5", None]],
    )


def test_the_limit_is_kept_and_one_below_1_refused(endpoint: str) -> None:
    assert len(ask(endpoint, "SELECT * FROM range(10)", 3)[1]) == 3
    with pytest.raises(UsageError, match="limit: expected at least 1 row, found 0"):
        ask(endpoint, "SELECT 1", 0)


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM signals",
        "DROP TABLE signals",
        "WITH x AS (SELECT 1) INSERT INTO watermark SELECT 1",
        "SELECT 1; SELECT 2",
        "COPY signals TO '/tmp/stolen.csv'",
        "ATTACH '/tmp/other.duckdb'",
        "SELEKT 1",
        "SELECT nothing FROM nowhere",
        "",
    ],
)
def test_what_does_more_than_read_or_is_no_sql_is_refused(endpoint: str, sql: str) -> None:
    with pytest.raises(UsageError, match="sql: "):
        ask(endpoint, sql, 10)


def test_a_question_that_takes_too_long_is_given_up_and_the_next_one_answered(endpoint: str) -> None:
    with pytest.raises(TimeoutExpiredError, match=r"expected an answer within 0\.5 s, found none"):
        ask(endpoint, FOREVER, 10)
    assert ask(endpoint, "SELECT 2", 10)[1] == [[2]]


def test_values_that_no_message_holds_come_as_text(endpoint: str) -> None:
    huge = 170141183460469231731687303715884105727
    columns, rows = ask(
        endpoint, f"SELECT {huge}::HUGEINT, '2026-01-05'::DATE, [1, 2], 18446744073709551615::UBIGINT", 1
    )
    assert len(columns) == 4
    assert rows == [[str(huge), "2026-01-05", "[1, 2]", 18446744073709551615]]
    assert ask(endpoint, "SELECT 1", 1)[1] == [[1]], "the service lives on"


@pytest.mark.parametrize("question", [None, 5, {}, {"sql": "SELECT 1"}, {"sql": "SELECT 1", "limit": "many"}])
def test_a_question_of_another_form_gets_an_error_and_the_service_lives_on(endpoint: str, question: Any) -> None:
    answered = request(endpoint, question, 5.0)
    assert answered is None or "error" in answered
    assert ask(endpoint, "SELECT 1", 1)[1] == [[1]]


def test_bytes_that_are_no_question_do_not_end_the_service(endpoint: str) -> None:
    context = zmq.Context()
    socket = context.socket(zmq.REQ)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(endpoint)
    socket.send(b"\xc1 garbage")
    assert socket.poll(5_000)
    socket.close()
    context.destroy(linger=0)
    assert ask(endpoint, "SELECT 1", 1)[1] == [[1]]


def test_no_answer_is_larger_than_the_greatest_limit() -> None:
    limits: list[int] = []

    class Session:
        def query(self, sql: str, limit: int, timeout_s: float) -> tuple[list[str], list[tuple[Any, ...]]]:
            limits.append(limit)
            return ["a"], []

    answer(Session(), {"sql": "SELECT 1", "limit": 10**9})
    assert limits == [LIMIT_ROWS_MAX]

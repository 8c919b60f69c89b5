"""SQL on a client's DuckDB file, answered by its router: the one process that has the file open.

request   {"sql": text, "limit": rows}
answer    {"columns": [...], "rows": [[...], ...]}  or  {"error": text, "exit_code": number}
"""

import threading
from typing import Any

from strategy_runner.bus.request import RequestServer, request
from strategy_runner.errors import StrategyRunnerError, TimeoutExpiredError, UsageError
from strategy_runner.sinks.interface import SqlSession

TIMEOUT_S = 30.0
LIMIT_ROWS_MAX = 100_000
_ERRORS = {error.exit_code: error for error in (UsageError, TimeoutExpiredError)}


class SqlService:
    """A thread of the router: a slow query never stands in front of a decision."""

    def __init__(self, server: RequestServer, session: SqlSession, *, timeout_s: float = TIMEOUT_S) -> None:
        self._server = server
        self._session = session
        self._timeout_s = timeout_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sql", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._server.wake()
        self._thread.join(self._timeout_s)
        self._server.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            asked = self._server.receive()
            if asked is not None:
                self._server.answer(answer(self._session, asked, self._timeout_s))


def answer(session: SqlSession, asked: Any, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
    """Runs one request; whatever goes wrong becomes the answer."""
    try:
        sql, limit = str(asked["sql"]), int(asked["limit"])
        if limit < 1:
            raise UsageError(f"limit: expected at least 1 row, found {limit}")
        columns, rows = session.query(sql, min(limit, LIMIT_ROWS_MAX), timeout_s)
        return {"columns": columns, "rows": [[_plain(value) for value in row] for row in rows]}
    except StrategyRunnerError as error:
        return {"error": str(error), "exit_code": error.exit_code}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}", "exit_code": 1}


def ask(endpoint: str, sql: str, limit: int) -> tuple[list[str], list[list[Any]]]:
    """Asks a running router. Raises NotRunningError, TimeoutExpiredError, UsageError for SQL that is not allowed or wrong."""
    answered = request(endpoint, {"sql": sql, "limit": limit}, TIMEOUT_S + 5.0)
    return unpack(answered)


def unpack(answered: dict[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of an answer. Raises the error it tells of."""
    if "error" in answered:
        raise _ERRORS.get(answered["exit_code"], StrategyRunnerError)(answered["error"])
    return answered["columns"], answered["rows"]


def _plain(value: Any) -> Any:
    """What msgpack can carry; everything else, also a number of more than 64 bits, as its text."""
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else str(value)
    return value if value is None or isinstance(value, float | str) else str(value)

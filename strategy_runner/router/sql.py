"""SQL on a client's DuckDB file, answered by its router: the one process that has the file open.

request   {"sql": text, "limit": rows}
answer    {"columns": [...], "rows": [[...], ...]}  or  {"error": text, "exit_code": number}
"""

import threading
from typing import Any, Protocol

from strategy_runner.bus.request import RequestServer, request
from strategy_runner.errors import StrategyRunnerError, UsageError

POLL_MS = 200
TIMEOUT_S = 30.0
LIMIT_ROWS_MAX = 100_000


class SqlSession(Protocol):
    def query(self, sql: str, limit: int, timeout_s: float) -> tuple[list[str], list[tuple[Any, ...]]]: ...


class SqlService:
    """A thread of the router: a slow query never stands in front of a decision."""

    def __init__(self, server: RequestServer, session: SqlSession) -> None:
        self._server = server
        self._session = session
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sql", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(TIMEOUT_S)
        self._server.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            asked = self._server.receive(POLL_MS)
            if asked is not None:
                self._server.answer(answer(self._session, asked))


def answer(session: SqlSession, asked: Any) -> dict[str, Any]:
    """Runs one request; whatever goes wrong becomes the answer."""
    try:
        columns, rows = session.query(str(asked["sql"]), min(int(asked["limit"]), LIMIT_ROWS_MAX), TIMEOUT_S)
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
    if "error" in answered:
        raise (UsageError if answered["exit_code"] == UsageError.exit_code else StrategyRunnerError)(answered["error"])
    return answered["columns"], answered["rows"]


def _plain(value: Any) -> Any:
    """What msgpack can carry; everything else as its text."""
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)

"""SQL for the CLI: through the client's router while it runs, else from the file that nobody else has open then."""

from typing import Any

from strategy_runner.config.home import Home
from strategy_runner.errors import LockedError, UsageError
from strategy_runner.router.sql import answer, ask, unpack
from strategy_runner.tape.lock import FolderLock


def run_sql(home: Home, client: str, mode: str, query: str, limit: int) -> tuple[list[str], list[list[Any]]]:
    """(column names, rows). Raises UsageError for SQL that is wrong or not a read, NotRunningError, TimeoutExpiredError."""
    folder = home.router(client, mode)
    if not folder.is_dir():
        raise UsageError(f"{client}: expected a {mode} run, found none at {folder}")
    try:
        lock = FolderLock(folder)
    except LockedError:
        return ask(home.router_endpoint(client, "sql"), query, limit)
    from strategy_runner.assembly import open_database  # slow to import, and of no use where a router runs
    from strategy_runner.sinks.dead_letters import DeadLetterLog

    try:
        database = open_database(home.database(client, mode), client, DeadLetterLog(folder / "dead_letters.log"))
        return unpack(answer(database, {"sql": query, "limit": limit}))
    finally:
        lock.release()

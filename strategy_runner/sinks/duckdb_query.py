"""Answering one analyst's question on a cursor of its own: only reading, never longer than its time, beside the writer."""

import threading
from itertools import count
from typing import Any

import duckdb

from strategy_runner.errors import TimeoutExpiredError, UsageError
from strategy_runner.sinks.interface import SinkUnavailable

QUERY_TIMEOUT_S = 30.0
ANSWER_BYTES_MAX = 128_000_000  # of values: a router holds an answer several times over until it is sent
# of one list, struct or map, in elements and as text: in Python it takes ten times as much, before anybody can count it
NESTED_MAX = 500_000
NESTED_BYTES_MAX = 8_000_000
_REFUSAL = (
    f"expected each list, struct or map to have at most {NESTED_MAX:,} elements and {NESTED_BYTES_MAX // 1_000_000} MB as text, "
    "found a larger one; unnest it, or ask for a part of it"
)
# what keeps writing out: WITH ... INSERT and EXPLAIN ANALYZE INSERT look like reading
_BEGIN = "BEGIN TRANSACTION READ ONLY"
_PART_ROWS = 64
_NESTED_PART_ROWS = 4

_NESTED = ("STRUCT", "MAP", "UNION", "VARIANT")
_READING = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
_FILE_TROUBLE = (duckdb.IOException, duckdb.FatalException, duckdb.InternalException, duckdb.ConnectionException)


def run_query(
    database: duckdb.DuckDBPyConnection, sql: str, limit: int, timeout_s: float
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Column names and at most `limit` rows. Raises UsageError, TimeoutExpiredError, SinkUnavailable."""
    assert limit > 0
    assert timeout_s > 0
    try:
        with database.cursor() as cursor:
            statement = _single_read(cursor, sql)
            cursor.execute(_BEGIN)
            timer = threading.Timer(timeout_s, cursor.interrupt)
            timer.start()
            try:
                return _read(cursor, statement, limit)
            finally:
                timer.cancel()
                timer.join()  # an interrupt must not meet a closed cursor
    except duckdb.InterruptException as error:
        raise TimeoutExpiredError(f"sql: expected an answer within {timeout_s:g} s, found none: {sql}") from error
    except _FILE_TROUBLE as error:
        raise SinkUnavailable(f"sql: {error}") from error
    except duckdb.Error as error:
        raise UsageError(f"sql: {error}") from error


def _read(
    cursor: duckdb.DuckDBPyConnection, statement: duckdb.Statement, limit: int
) -> tuple[list[str], list[tuple[Any, ...]]]:
    if statement.type is duckdb.StatementType.SELECT:
        try:
            described = cursor.execute(f"DESCRIBE {statement.query}").fetchall()
        except duckdb.ProgrammingError:
            cursor.execute("ROLLBACK")
            cursor.execute(_BEGIN)
            cursor.execute(statement)  # its own fault is told at its own place
            raise
        kinds = [str(kind) for _, kind, *_ in described]
        if any(map(_is_nested, kinds)):
            values = ", ".join(map(_small, count(), kinds))
            names = ", ".join(f"c{number}" for number in range(len(kinds)))
            cursor.execute(f"SELECT {values} FROM (\n{_without_end(statement.query)}\n) AS asked({names})")
            return [str(name) for name, *_ in described], _rows(cursor, limit, _NESTED_PART_ROWS)
    cursor.execute(statement)
    return [str(column[0]) for column in cursor.description or ()], _rows(cursor, limit, _PART_ROWS)


def _without_end(query: str) -> str:
    """One statement without its semicolon, and what comments stand behind it."""
    raw = query.encode()
    semicolons = [
        at for at, kind in duckdb.tokenize(query) if kind is duckdb.token_type.operator and raw[at : at + 1] == b";"
    ]
    return raw[: semicolons[0]].decode() if semicolons else query


def _is_nested(kind: str) -> bool:
    return kind.endswith("]") or kind.startswith(_NESTED)


def _small(number: int, kind: str) -> str:
    """The column of this number, for which DuckDB itself ends the query where a value is too large: in Python it would be one
    object whole."""
    value = f"c{number}"
    if not _is_nested(kind):
        return value
    refused = f"THEN error('{_REFUSAL}')"
    counted = f"len({value})" if kind.endswith("[]") else f"cardinality({value})" if kind.startswith("MAP") else "0"
    return (
        f"CASE WHEN {counted} > {NESTED_MAX} {refused} "
        f"WHEN strlen({value}::VARCHAR) > {NESTED_BYTES_MAX} {refused} ELSE {value} END"
    )


def _rows(cursor: duckdb.DuckDBPyConnection, limit: int, part_rows: int) -> list[tuple[Any, ...]]:
    """Part by part: DuckDB keeps to its own limit meanwhile, and its rows become Python's only as far as they are wanted."""
    rows: list[tuple[Any, ...]] = []
    size = 0
    while len(rows) < limit and (part := cursor.fetchmany(min(part_rows, limit - len(rows)))):
        size += _size(part)
        if size > ANSWER_BYTES_MAX:
            raise UsageError(
                f"sql: expected an answer of at most {ANSWER_BYTES_MAX // 1_000_000} MB, found more; "
                "ask for fewer rows or columns, or for parts of values"
            )
        rows += part
    return rows


def _size(value: Any) -> int:
    """Bytes of a value as it is held here, about."""
    match value:
        case str() | bytes():
            return len(value)
        case list() | tuple():
            return sum(map(_size, value)) + 32 * len(value)
        case dict():
            return sum(map(_size, value.items()))
    return 8


def _single_read(cursor: duckdb.DuckDBPyConnection, sql: str) -> duckdb.Statement:
    statements = cursor.extract_statements(sql)
    if len(statements) != 1:
        raise UsageError(f"sql: expected one statement, found {len(statements)}")
    kind = statements[0].type
    if kind not in _READING:
        raise UsageError(f"sql: expected a statement that only reads (SELECT, EXPLAIN), found {kind.name}")
    return statements[0]

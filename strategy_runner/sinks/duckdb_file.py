"""Opening a client's DuckDB file: whole, locked down, in UTC; a file that cannot be read is set aside, never deleted."""

import errno
import logging
import os
from functools import cache
from pathlib import Path

import duckdb

from strategy_runner.sinks.duckdb_schema import CREATE, FORMAT
from strategy_runner.sinks.interface import SinkUnavailable
from strategy_runner.small_files import sync_path

MEMORY_LIMIT_MB = 512
THREADS = 1
# A checkpoint compresses the last 122,880 rows again, however few of them are new: at DuckDB's own 16 MB it was half of all
# that a row cost. After a kill that much is read again, in half a second.
LOG_LIMIT_MB = 64

_log = logging.getLogger(__name__)
# DuckDB words an operating system's refusal with strerror. These pass, or a person mends them: the file is sound.
_PASSING = tuple(
    os.strerror(code)
    for code in (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.EISDIR,
        errno.ENOTDIR,
        errno.ENOENT,
    )
)


def open_database(path: Path, client: str) -> duckdb.DuckDBPyConnection:
    """The file at `path`, created, or rebuilt empty if it cannot be read. Raises SinkUnavailable."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _create(path, client)
        try:
            return _open(path, client)
        except duckdb.Error as error:
            if passes(error):
                raise SinkUnavailable(f"{path}: cannot open: {error}") from error
            set_aside(path, str(error))
        except _WrongFormat as error:
            set_aside(path, str(error))
        _create(path, client)
        return _open(path, client)
    except (duckdb.Error, _WrongFormat, OSError) as error:
        raise SinkUnavailable(f"{path}: cannot open: {error}") from error


def passes(error: duckdb.Error) -> bool:
    """Whether an error met at opening says nothing of the file's content: who has it open, a full disk, no memory."""
    text = str(error)
    locked = "lock on file" in text
    return locked or isinstance(error, duckdb.OutOfMemoryException) or any(words in text for words in _PASSING)


def is_damage(error: duckdb.Error) -> bool:
    """Whether an error met after opening says that the file's content is broken."""
    return "Corrupt database file" in str(error) or "checksum" in str(error)


def set_aside(path: Path, problem: str) -> None:
    """Rename the file and its write-ahead log, together readable under the new name. Raises OSError."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists() or _wal(aside).exists():
        number += 1
    # The log first: left alone beside a new file it could be replayed into it.
    if _wal(path).exists():
        _wal(path).rename(_wal(aside))
    if path.exists():
        path.rename(aside)
    sync_path(path.parent)
    _log.warning("%s: cannot be read (%s): set aside as %s, rebuilding from decision 0", path, problem, aside)


class _WrongFormat(Exception):  # noqa: N818  caught above: the file is set aside
    pass


def _create(path: Path, client: str) -> None:
    """A new file appears whole: a kill while DuckDB lays it out leaves nothing that looks like damage."""
    if _wal(path).exists():
        set_aside(path, "a write-ahead log without its file")
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    _wal(new).unlink(missing_ok=True)
    with _connect(new) as database:
        database.execute("BEGIN")
        for statement in CREATE:
            database.execute(statement)
        database.execute("INSERT INTO about VALUES (?, ?)", [FORMAT, client])
        database.execute("COMMIT")
    assert not _wal(new).exists(), "closing writes everything into the file"
    new.rename(path)
    sync_path(path.parent)


def _open(path: Path, client: str) -> duckdb.DuckDBPyConnection:
    database = _connect(path)
    try:
        _check_format(database, client)
    except BaseException:
        database.close()
        raise
    return database


def _connect(path: Path) -> duckdb.DuckDBPyConnection:
    database = duckdb.connect(
        str(path),
        config={
            # whoever may ask questions here may not read other files through it
            "enable_external_access": "false",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "python_enable_replacements": "false",
            "memory_limit": f"{MEMORY_LIMIT_MB}MB",
            "threads": str(THREADS),
            "checkpoint_threshold": f"{LOG_LIMIT_MB}MB",
            "pandas_analyze_sample": "1",  # a column of ours has values of one type
        },
    )
    database.execute("SET GLOBAL TimeZone = 'UTC'")
    database.execute("SET lock_configuration = true")
    return database


def _check_format(database: duckdb.DuckDBPyConnection, client: str) -> None:
    try:
        found = database.execute("SELECT format, client FROM about").fetchall()
    except duckdb.CatalogException:
        found = []
    if found != [(FORMAT, client)]:
        raise _WrongFormat(f"about: expected format {FORMAT} of client {client!r}, found {found}")
    there = _columns(database)
    for table, expected in _own_columns().items():
        columns = there.get(table, [])
        if columns != expected:
            differing = sorted({*columns} ^ {*expected}) or "their order"
            raise _WrongFormat(f"table {table}: expected the columns that it was made with, found {differing} altered")


@cache
def _own_columns() -> dict[str, list[str]]:
    with duckdb.connect(config={"threads": "1"}) as database:
        for statement in CREATE:
            database.execute(statement)
        return _columns(database)


def _columns(database: duckdb.DuckDBPyConnection) -> dict[str, list[str]]:
    """Of each table the names and types of its columns, in their order: rows are inserted by place."""
    found = database.execute("""
        SELECT table_name, list(column_name || ' ' || data_type ORDER BY column_index)
        FROM duckdb_columns() WHERE table_name IN (SELECT table_name FROM duckdb_tables())
        GROUP BY table_name
    """)
    return dict(found.fetchall())


def _wal(path: Path) -> Path:
    return path.with_name(f"{path.name}.wal")

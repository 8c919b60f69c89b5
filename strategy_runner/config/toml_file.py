"""Reading one TOML file into a raw table, or saying in one line why that cannot be."""

import re
import tomllib
from pathlib import Path
from typing import Any

from strategy_runner.errors import ConfigurationError, reason_of

FILE_BYTES_MAX = 4_194_304
DEPTH_MAX = 32

_PLACE = re.compile(r"(?P<fault>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)", re.DOTALL)


def read_toml(path: Path, shown: str) -> dict[str, Any]:
    """The file's table. `shown` names it in messages. Raises ConfigurationError; a file that is not there names its path."""
    if path.is_fifo():  # every command would wait there for somebody to write into it
        raise ConfigurationError(f"{shown}: expected a readable file at {path}, found a pipe")
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        reason = reason_of(error)
        raise ConfigurationError(f"{shown}: expected a readable file at {path}, found: {reason}") from error
    if len(raw) > FILE_BYTES_MAX:
        raise ConfigurationError(f"{shown}: expected at most {FILE_BYTES_MAX} bytes, found more")
    return parse_toml(raw, shown)


def parse_toml(raw: bytes, shown: str) -> dict[str, Any]:
    """The table of a file's bytes. Raises ConfigurationError with line and column."""
    try:
        # editors that sign their files with a byte order mark mean no harm
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(f"{shown}: line {line}: expected UTF-8 text, found other bytes") from error
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        match = _PLACE.fullmatch(str(error))
        fault = match["fault"] if match else str(error)
        last_line = text.count("\n") + 1
        place = (
            f"line {match['line']}, column {match['column']}"
            if match and match["line"]
            else f"line {last_line}, end of file"
        )
        raise ConfigurationError(f"{shown}: {place}: expected TOML, found: {fault[:1].lower()}{fault[1:]}") from error
    except (ValueError, RecursionError) as error:
        # an integer of thousands of digits, or lists in lists without end
        raise ConfigurationError(f"{shown}: expected TOML of sensible size, found: {error}") from error
    if is_too_deep(table):
        raise ConfigurationError(
            f"{shown}: expected at most {DEPTH_MAX} tables and lists inside each other, found more"
        )
    return table


def is_too_deep(value: Any) -> bool:
    """Whether tables and lists nest deeper than DEPTH_MAX: dotted keys can nest deeper than Python can recurse."""
    level = [value]
    for _ in range(DEPTH_MAX + 1):
        level = [
            item
            for outer in level
            if isinstance(outer, dict | list)
            for item in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True

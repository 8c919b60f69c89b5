"""Writing values and key paths the way a user would write them in TOML, for messages and for show-config."""

import math
import re
from datetime import date, datetime, time
from typing import Any

from strategy_runner.config.secret import SecretReference, quoted

SHOWN_CHARACTERS_MAX = 60

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def join(path: str, key: str) -> str:
    """`risk` and `max_drawdown` to `risk.max_drawdown`; a key with other characters is quoted."""
    shown = key if _BARE_KEY.fullmatch(key) else quoted(key)
    return f"{path}.{shown}" if path else shown


def written(value: Any) -> str:
    """A value in TOML notation, whole."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return quoted(value)
        case float() if not math.isfinite(value):
            return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
        case datetime() | date() | time():
            return value.isoformat()
        case SecretReference():
            return str(value)
        case list() | tuple():
            return f"[{', '.join(written(item) for item in value)}]"
        case dict():
            inside = ", ".join(f"{join('', key)} = {written(item)}" for key, item in value.items())
            return f"{{ {inside} }}" if inside else "{}"
        case _:
            return str(value)


def found(value: Any) -> str:
    """A value as a message repeats it: tables and lists by name, long texts cut."""
    match value:
        case dict():
            return "a table"
        case list():
            return "a list" if value else "an empty list"
        case int() if value.bit_length() > 64:
            # str() of a huge integer is slow and may itself refuse
            return "an integer of more than 64 bits"
    shown = written(value)
    return shown if len(shown) <= SHOWN_CHARACTERS_MAX else f"{shown[: SHOWN_CHARACTERS_MAX - 1]}…"

"""Rules over the keys of [risk] and of a strategy's sizing that no type can say."""

from collections.abc import Iterable
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec.structs as structs

from strategy_runner.config.decode import Reading
from strategy_runner.config.notation import found, join
from strategy_runner.config.schema import RiskConfig
from strategy_runner.config.secret import quoted
from strategy_runner.config.suggest import nearest

# what each kind of sizing needs; anything else it must not have
SIZING_KEYS: dict[str, frozenset[str]] = {
    "fixed": frozenset(),
    "equity_fraction": frozenset({"fraction"}),
    "volatility_target": frozenset({"target_volatility", "max_fraction"}),
    "fixed_risk": frozenset({"fraction", "max_fraction"}),
    "kelly": frozenset({"fraction", "max_fraction", "win_rate", "payoff"}),
}
# keys that say nothing without each other
_TOGETHER = (
    ("runaway_signals", "runaway_window_s"),
    ("max_rejects", "rejects_window_s"),
    ("max_rejects", "cooldown_s"),
)


def check_risk(reading: Reading, risk: dict[str, Any], strategies: Iterable[dict[str, Any]]) -> None:
    """`strategies` are the tables of [[strategies]], faults and all."""
    symbols: list[str] = []
    ids: list[str] = []
    for strategy in strategies:
        traded = strategy.get("symbols")
        symbols += [symbol for symbol in traded if isinstance(symbol, str)] if isinstance(traded, list) else []
        ids += [strategy["id"]] if isinstance(strategy.get("id"), str) else []
    for key, other in (pair for one, two in _TOGETHER for pair in ((one, two), (two, one))):
        if key in risk and other not in risk:
            reading.fault(f"risk.{other}", f"expected a value, since risk.{key} is given, found nothing")
    _names(reading, risk, "shares", "the id of a strategy", ids)
    _names(reading, risk, "priorities", "the id of a strategy", ids)
    _names(reading, risk, "max_position_size", "a symbol that a strategy trades", symbols)
    _priorities(reading, risk)
    _lists(reading, risk)
    _timezone(reading, risk)


def check_live_risk(reading: Reading, risk: dict[str, Any], symbols: Iterable[str]) -> None:
    """Real money has no silent default: each limit must have been written by somebody, for each symbol where it is by symbol."""
    for field in structs.fields(RiskConfig):
        if (field.default is None or field.name == "starting_cash") and field.name not in risk:
            reading.fault(f"risk.{field.name}", "expected a limit, since mode is live, found nothing")
    sizes = risk.get("max_position_size", {})
    for symbol in dict.fromkeys(symbols):
        if isinstance(sizes, dict) and symbol not in sizes:
            path = join("risk.max_position_size", symbol)
            reading.fault(path, "expected a limit, since mode is live, found nothing")


def check_sizing(reading: Reading, sizing: dict[str, Any], path: str, label: str) -> None:
    kind = sizing.get("kind", "fixed")
    if kind not in SIZING_KEYS:
        return  # a fault of its own
    needed = SIZING_KEYS[kind]
    for key in sorted(needed - sizing.keys()):
        text = f"expected a number, since {path}.kind is {quoted(kind)}, found nothing"
        reading.fault(f"{path}.{key}", text, label=label)
    for key in sorted(sizing.keys() - needed - {"kind"}):
        text = f"expected nothing, since {path}.kind is {quoted(kind)}, found {found(sizing[key])}"
        reading.fault(f"{path}.{key}", text, label=label)


def _names(reading: Reading, risk: dict[str, Any], key: str, expected: str, known: list[str]) -> None:
    """A limit on a name that nobody has is a limit on nothing."""
    given = risk.get(key, {})
    names = list(given) if isinstance(given, dict | list) else []
    for index, name in enumerate(names):
        if not isinstance(name, str) or name in known:
            continue
        near = nearest(name, known)
        hint = f"; did you mean {quoted(near)}?" if near else ""
        path = join(f"risk.{key}", name) if isinstance(given, dict) else f"risk.{key}[{index}]"
        reading.fault(path, f"expected {expected}, found {found(name)}{hint}")


def _priorities(reading: Reading, risk: dict[str, Any]) -> None:
    given = risk.get("priorities", [])
    if not isinstance(given, list):
        return
    if risk.get("aggregation") == "priority" and not given:
        text = 'expected ids of strategies, the first of which counts most, since risk.aggregation is "priority"'
        reading.fault("risk.priorities", f"{text}, found nothing")
    for index, name in enumerate(given):
        if isinstance(name, str) and name in given[:index]:
            reading.fault(f"risk.priorities[{index}]", f"expected each strategy once, found {found(name)} again")


def _lists(reading: Reading, risk: dict[str, Any]) -> None:
    allowed, denied = risk.get("allow_symbols", []), risk.get("deny_symbols", [])
    if not isinstance(allowed, list) or not isinstance(denied, list):
        return
    for index, symbol in enumerate(denied):
        if isinstance(symbol, str) and symbol in allowed:
            text = f"expected a symbol that risk.allow_symbols does not allow, found {found(symbol)}"
            reading.fault(f"risk.deny_symbols[{index}]", text)


def _timezone(reading: Reading, risk: dict[str, Any]) -> None:
    zone = risk.get("timezone", "UTC")
    if not isinstance(zone, str):
        return
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, OSError, ValueError):
        reading.fault("risk.timezone", f'expected a time zone such as "America/New_York", found {found(zone)}')

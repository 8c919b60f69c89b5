"""Rules over several keys at once, which no type can say.

They look at the examined tree, faults and all, so that a wrong type in one key does not hide a missing account in another.
"""

from collections.abc import Iterator
from typing import Any

from strategy_runner.config.decode import Reading, table_of
from strategy_runner.config.layers import BUILT_IN
from strategy_runner.config.notation import found, join
from strategy_runner.config.risk_rules import check_live_risk, check_risk, check_sizing
from strategy_runner.config.schema import EnvironmentConfig, FeedConfig
from strategy_runner.config.secret import quoted
from strategy_runner.config.suggest import nearest
from strategy_runner.config.times import time_ns
from strategy_runner.config.trading_rules import check_paper, check_trading, sends_orders
from strategy_runner.config.wire_rules import check_wires

ENVIRONMENT_KINDS = ("local-dev", "integration", "cloud")


def check_environment(reading: Reading, tree: dict[str, Any], name: str) -> None:
    _own_name(reading, tree, name)
    _mock(reading, tree)
    _beats(reading, tree)
    _routes(reading, tree)
    _connections(reading, tree)
    check_wires(reading, tree)
    check_paper(reading, tree, table_of(tree, "instruments"))


def check_client(reading: Reading, tree: dict[str, Any], environment: EnvironmentConfig, environment_file: str) -> None:
    _routes(reading, tree)
    _connections(reading, tree)
    check_wires(reading, tree)
    _strategy_ids(reading, tree)
    for index, strategy in _strategies(tree):
        _strategy(reading, strategy, f"strategies[{index}]")
    _accounts(reading, tree)
    check_risk(reading, table_of(tree, "risk"), (strategy for _, strategy in _strategies(tree)))
    check_paper(reading, tree, environment.instruments)
    if sends_orders(tree):
        traded = (symbol for _, strategy in _strategies(tree) for _, symbol in _strings(strategy.get("symbols")))
        check_trading(reading, tree, environment, list(traded))
    if tree.get("mode") == "mock":
        _instruments(reading, tree, ("symbols", "extra_symbols"), environment, environment_file)
    elif sends_orders(tree):
        _instruments(reading, tree, ("symbols",), environment, environment_file)
    if tree.get("mode") == "live":
        _live_limits(reading, tree)


# -- the environment ---------------------------------------------------------------------------------------------------


def _own_name(reading: Reading, tree: dict[str, Any], name: str) -> None:
    """A file named after one kind of environment that says it is another would be a trap."""
    kind = tree.get("environment")
    if name in ENVIRONMENT_KINDS and kind in ENVIRONMENT_KINDS and kind != name:
        reading.fault("environment", f"expected {quoted(name)} as in the file's name, found {quoted(kind)}")


def _mock(reading: Reading, tree: dict[str, Any]) -> None:
    mock = table_of(tree, "mock")
    start = mock.get("start", "now")
    if isinstance(start, str) and start != "now":
        try:
            time_ns(start)
        except ValueError:
            expected = '"now" or a time in quotes such as "2026-01-05T00:00:00Z"'
            reading.fault("mock.start", f"expected {expected}, found {found(start)}")
    if mock.get("trades_per_s") == 0 and mock.get("quotes_per_s") == 0:
        reading.fault("mock.trades_per_s", "expected a number > 0 here or in mock.quotes_per_s, found 0 in both")


def _beats(reading: Reading, tree: dict[str, Any]) -> None:
    """One late beat is no silence."""
    feed, built_in = table_of(tree, "feed"), FeedConfig()
    interval_s = feed.get("beat_interval_s", built_in.beat_interval_s)
    stale_after_s = feed.get("stale_after_s", built_in.stale_after_s)
    if not all(isinstance(value, int | float) for value in (interval_s, stale_after_s)):
        return
    if stale_after_s <= 2 * interval_s:
        expected = f"more than two beats of feed.beat_interval_s, {found(interval_s)} each"
        reading.fault("feed.stale_after_s", f"expected {expected}, found {found(stale_after_s)}")


# -- both --------------------------------------------------------------------------------------------------------------


def _routes(reading: Reading, tree: dict[str, Any]) -> None:
    for index, route in _repeated(tree.get("routes")):
        reading.fault(f"routes[{index}]", f"expected each route once, found {found(route)} again")


def _connections(reading: Reading, tree: dict[str, Any]) -> None:
    for section, kind, keys in (
        ("storage", "bigquery", {"project": "a Google Cloud project id", "dataset": "the name of a dataset"}),
        ("messaging", "redis", {"url": "a URL like redis://HOST:PORT/0"}),
        ("messaging", "pubsub", {"project": "a Google Cloud project id"}),
        ("oms", "grpc", {"address": "an address such as HOST:PORT"}),
    ):
        table = table_of(tree, section)
        if table.get("kind") != kind:
            continue
        for key, expected in keys.items():
            if key not in table:
                text = f"expected {expected}, since {section}.kind is {quoted(kind)}, found nothing"
                reading.fault(f"{section}.{key}", text, origin=reading.origin(f"{section}.kind"))


# -- the client --------------------------------------------------------------------------------------------------------


def _strategy_ids(reading: Reading, tree: dict[str, Any]) -> None:
    first: dict[str, int] = {}
    for index, strategy in _strategies(tree):
        own = strategy.get("id")
        if not isinstance(own, str):
            continue
        if own in first:
            other = f"strategies[{first[own]}]"
            text = f"expected an id of its own, found {found(own)} as in {other}"
            reading.fault(f"strategies[{index}].id", text, label=own)
        first.setdefault(own, index)


def _strategy(reading: Reading, strategy: dict[str, Any], path: str) -> None:
    label = _id(strategy)
    for key in ("symbols", "extra_symbols"):
        for index, symbol in _repeated(strategy.get(key)):
            text = f"expected each symbol once, found {found(symbol)} again"
            reading.fault(f"{path}.{key}[{index}]", text, label=label)
    check_sizing(reading, table_of(strategy, "sizing"), f"{path}.sizing", label)
    models = strategy.get("models")
    if isinstance(models, list):
        ids = [model.get("id") if isinstance(model, dict) else None for model in models]
        for index, model in _repeated(ids):
            text = f"expected each model once, found {found(model)} again"
            reading.fault(f"{path}.models[{index}].id", text, label=label)


def _accounts(reading: Reading, tree: dict[str, Any]) -> None:
    """Every traded symbol has an account; a symbol that is only read (extra_symbols) needs none."""
    accounts = tree.get("accounts", {})
    if not isinstance(accounts, dict):
        return
    users: dict[str, list[str]] = {}
    for index, strategy in _strategies(tree):
        for _, symbol in _strings(strategy.get("symbols")):
            users.setdefault(symbol, []).append(_id(strategy) or f"strategies[{index}]")
    for symbol, strategies in users.items():
        if symbol not in accounts:
            near = nearest(symbol, (name for name in accounts if name not in users))
            hint = f"; accounts has {near}, which no strategy trades" if near else ""
            text = (
                f"expected {{ venue, account }} for a symbol of {', '.join(dict.fromkeys(strategies))}, found nothing"
            )
            reading.fault(join("accounts", symbol), text + hint)


def _instruments(
    reading: Reading, tree: dict[str, Any], keys: tuple[str, ...], environment: EnvironmentConfig, environment_file: str
) -> None:
    """The mock market makes prices for the instruments of the environment and for no others, and no order is made without."""
    known = environment.instruments
    for index, strategy in _strategies(tree):
        for key in keys:
            for place, symbol in _strings(strategy.get(key)):
                if symbol in known:
                    continue
                near = nearest(symbol, known)
                hint = f"; did you mean {quoted(near)}?" if near else f"; it has {', '.join(known) or 'none'}"
                text = f"expected an instrument of {environment_file}, found {found(symbol)}{hint}"
                reading.fault(f"strategies[{index}].{key}[{place}]", text, label=_id(strategy))


def _live_limits(reading: Reading, tree: dict[str, Any]) -> None:
    """Real money has no silent default: each limit must have been written by somebody."""
    traded = (symbol for _, strategy in _strategies(tree) for _, symbol in _strings(strategy.get("symbols")))
    check_live_risk(reading, table_of(tree, "risk"), traded)
    for key in ("memory_limit_mb", "cpu_limit"):
        path = f"limits.{key}"
        if reading.origins.get(path) == BUILT_IN:
            value = table_of(tree, "limits").get(key)
            reading.fault(path, f"expected a limit, since mode is live, found only the built-in {found(value)}")
    for index, strategy in _strategies(tree):
        if "time_to_live_s" not in strategy:
            text = "expected a limit, since mode is live, found nothing"
            reading.fault(f"strategies[{index}].time_to_live_s", text, label=_id(strategy))
        if "on_restart" not in strategy:
            text = 'expected "resume", "hold", "flatten" or "ask", since mode is live, found nothing'
            reading.fault(f"strategies[{index}].on_restart", text, label=_id(strategy))


# -- looking at a tree that may have faults ----------------------------------------------------------------------------


def _strategies(tree: dict[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    strategies = tree.get("strategies")
    for index, strategy in enumerate(strategies if isinstance(strategies, list) else ()):
        if isinstance(strategy, dict):
            yield index, strategy


def _strings(items: Any) -> Iterator[tuple[int, str]]:
    for index, item in enumerate(items if isinstance(items, list) else ()):
        if isinstance(item, str):
            yield index, item


def _repeated(items: Any) -> Iterator[tuple[int, str]]:
    seen: set[str] = set()
    for index, item in _strings(items):
        if item in seen:
            yield index, item
        seen.add(item)


def _id(strategy: dict[str, Any]) -> str:
    own = strategy.get("id")
    return own if isinstance(own, str) else ""

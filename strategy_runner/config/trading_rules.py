"""Rules over what a client that sends orders must have said: whom it sends them to, what it trades, what its money is worth."""

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

from strategy_runner.config.decode import Reading, table_of
from strategy_runner.config.instruments import currency_of
from strategy_runner.config.notation import found, join
from strategy_runner.config.schema import EnvironmentConfig, InstrumentConfig, RiskConfig
from strategy_runner.config.suggest import nearest
from strategy_runner.model.instrument import decimal_of


def sends_orders(tree: dict[str, Any]) -> bool:
    routes = tree.get("routes")
    return isinstance(routes, list) and "oms" in routes


def check_trading(
    reading: Reading, tree: dict[str, Any], environment: EnvironmentConfig, symbols: Iterable[str]
) -> None:
    """`tree` is the client's, faults and all; `symbols` are those that its strategies trade."""
    on_paper = table_of(tree, "oms").get("kind", "paper") == "paper"
    cash = table_of(table_of(tree, "paper"), "cash") if on_paper else {}
    _rates(reading, table_of(tree, "risk"), environment.instruments, symbols, cash)
    if on_paper:
        _cash(reading, tree)


def check_paper(reading: Reading, tree: dict[str, Any], instruments: dict[str, InstrumentConfig]) -> None:
    """Settings for a symbol that nobody knows are settings for nothing."""
    for symbol in table_of(table_of(tree, "paper"), "symbols"):
        if symbol not in instruments:
            near = nearest(symbol, instruments)
            hint = f"; did you mean {found(near)}?" if near else ""
            reading.fault(join("paper.symbols", symbol), f"expected an instrument, found {found(symbol)}{hint}")


def _rates(
    reading: Reading,
    risk: dict[str, Any],
    instruments: dict[str, InstrumentConfig],
    symbols: Iterable[str],
    cash: dict[str, Any],
) -> None:
    """Equity is one number: each currency that is traded, or that an account begins with, has a worth in the client's."""
    own, rates = risk.get("currency", RiskConfig().currency), risk.get("rates", {})
    if not isinstance(own, str) or not isinstance(rates, dict):
        return
    if own in rates:
        text = f"expected other currencies than risk.currency, of which one is worth one, found {found(own)}"
        reading.fault(join("risk.rates", own), text)
    missing: dict[str, str] = {}
    for symbol in symbols:
        if symbol in instruments:
            missing.setdefault(currency_of(symbol, instruments[symbol]), f"{symbol} is quoted in it")
    for account, held in cash.items():
        for currency in held if isinstance(held, dict) else ():
            missing.setdefault(currency, f"{join('paper.cash', account)} has it")
    for currency, why in missing.items():
        if currency != own and currency not in rates:
            text = f"expected what one {currency} is worth in {own}, since {why}, found nothing"
            reading.fault(join("risk.rates", currency), text)


def _cash(reading: Reading, tree: dict[str, Any]) -> None:
    """The cash of the accounts is the client's cash: what its limits are measured against must be what it has."""
    risk, cash = table_of(tree, "risk"), table_of(table_of(tree, "paper"), "cash")
    accounts = set(_accounts(tree))
    if not cash:
        if len(accounts) > 1:
            text = f"expected the cash of each account, since there are {', '.join(sorted(accounts))}, found nothing"
            reading.fault("paper.cash", text)
        return
    for account in cash:
        if account not in accounts:
            known = ", ".join(sorted(accounts)) or "none"
            reading.fault(join("paper.cash", account), f"expected one of the accounts {known}, found {found(account)}")
    total = _total(cash, risk)
    starting_cash = risk.get("starting_cash", RiskConfig().starting_cash)
    if total is not None and isinstance(starting_cash, int | float) and total != decimal_of(starting_cash):
        text = f"expected the cash of all accounts, {float(total)}, found {found(starting_cash)}"
        reading.fault("risk.starting_cash", text, origin=reading.origin("risk.starting_cash"))


def _total(cash: dict[str, Any], risk: dict[str, Any]) -> Decimal | None:
    """In the client's currency; None where something of it is at fault, which is told elsewhere."""
    own, rates = risk.get("currency", RiskConfig().currency), table_of(risk, "rates")
    total = Decimal(0)
    for held in cash.values():
        for currency, amount in held.items() if isinstance(held, dict) else ():
            rate = 1.0 if currency == own else rates.get(currency)
            if not isinstance(amount, int | float) or not isinstance(rate, int | float):
                return None
            total += decimal_of(amount) * decimal_of(rate)
    return total


def _accounts(tree: dict[str, Any]) -> Iterator[str]:
    for one in table_of(tree, "accounts").values():
        if isinstance(one, dict) and isinstance(one.get("account"), str):
            yield one["account"]

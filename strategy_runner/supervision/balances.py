"""Accounts as people read them: what each began with and what its fills and payments made of it, at the run's last prices."""

from collections.abc import Mapping
from decimal import Decimal

import msgspec

from strategy_runner.config.home import Home
from strategy_runner.config.instruments import instruments_of
from strategy_runner.config.load import load_client
from strategy_runner.config.loaded import Loaded
from strategy_runner.config.paper import exact, opening_cash
from strategy_runner.config.schema import EnvironmentConfig
from strategy_runner.errors import ConfigurationError, StateError, StrategyRunnerError, sparing
from strategy_runner.model.instrument import Instrument
from strategy_runner.model.position import ZERO, Position
from strategy_runner.oms.ledger import Account, MissingPriceError, Valuation, place, valuation
from strategy_runner.supervision.holdings import LastPrices, positions_of_run, prices_of_runs
from strategy_runner.supervision.wishes import environment_in_use


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """`cash` is by currency, empty where the client's folder is gone and nothing says what there was to begin with. `value` is of
    the whole account in the client's currency, None there and where a price or a rate is missing; `problem` then says why."""

    client: str
    account: str
    cash: dict[str, Decimal]
    value: Valuation | None
    problem: str = ""


def balances(
    home: Home, runs: Mapping[str, str], environ: Mapping[str, str], faults: list[StrategyRunnerError]
) -> list[Balance]:
    """`runs` says by client which mode's run is read. A client whose file is broken or whose log is damaged is left out, and
    `faults` gets why. Raises ConfigurationError for the environment's file.
    """
    environment = environment_in_use(home, environ)
    instruments = instruments_of(environment.value.instruments)
    prices = prices_of_runs(home, runs)
    found: list[Balance] = []
    for client, mode in runs.items():
        with sparing(faults):
            found += _of_client(home, client, mode, prices[client], environment, instruments, environ)
    return found


def _of_client(
    home: Home,
    client: str,
    mode: str,
    last: LastPrices,
    environment: Loaded[EnvironmentConfig],
    instruments: Mapping[str, Instrument],
    environ: Mapping[str, str],
) -> list[Balance]:
    """Raises ConfigurationError, StateError, OSError."""
    held: dict[str, list[Position]] = {}
    for position in positions_of_run(home, client, mode):
        held.setdefault(position.account, []).append(position)
    try:
        config = load_client(home, client, environment, environ=environ).value
    except ConfigurationError as error:
        if home.client_config(client).parent.is_dir():
            raise
        return [_without_file(client, name, error) for name in sorted(held)]
    opening = opening_cash(config)
    rates = exact(config.risk.rates)
    found: list[Balance] = []
    for name in sorted(opening.keys() | held.keys()):
        account = _account(client, name, opening.get(name, {}), held.get(name, []), instruments)
        symbols = {one.symbol for one in held.get(name, []) if one.quantity}
        prices = {symbol: price for symbol in symbols if (price := last.of(symbol)) is not None}
        found.append(_balance(account, config.risk.currency, prices, rates, instruments))
    return found


def _without_file(client: str, account: str, error: ConfigurationError) -> Balance:
    problem = f"{client} {account}: what it began with is not known: {error}"
    return Balance(client=client, account=account, cash={}, value=None, problem=problem)


def _account(
    client: str, name: str, opening: Mapping[str, Decimal], held: list[Position], instruments: Mapping[str, Instrument]
) -> Account:
    """Cash is what there was, less what positions cost and with what they have brought."""
    cash = dict(opening)
    for one in held:
        if one.symbol not in instruments:
            raise StateError(f"{client}: expected {one.symbol} among the environment's instruments, found nothing")
        currency = instruments[one.symbol].currency
        cash[currency] = cash.get(currency, ZERO) + one.realised - one.fees + one.funding - one.cost
    positions = {place(one.strategy, one.symbol): one for one in held}
    return Account(client=client, account=name, cash=cash, positions=positions)


def _balance(
    account: Account,
    currency: str,
    prices: Mapping[str, Decimal],
    rates: Mapping[str, Decimal],
    instruments: Mapping[str, Instrument],
) -> Balance:
    value, problem = None, ""
    try:
        value = valuation(account, currency, prices=prices, rates=rates, instruments=instruments)
    except MissingPriceError as error:
        problem = str(error)
    return Balance(client=account.client, account=account.account, cash=account.cash, value=value, problem=problem)

"""What a client that sends orders must have said, and how the paper market fills them."""

from decimal import Decimal
from pathlib import Path

import pytest

from strategy_runner.config.home import Home
from strategy_runner.config.load import load_client, load_environment
from strategy_runner.config.paper import fill_settings, opening_cash
from strategy_runner.config.schema import ClientConfig
from strategy_runner.errors import ConfigurationError

D = Decimal

ENVIRONMENT = """\
environment = "local-dev"

[paper]
latency_ms = 20
slippage_bps = 1.5
fees = { maker = 0.0002, taker = 0.0005 }

[paper.symbols.SPY]
fees = { per_share = 0.005, minimum = 1.0 }

[instruments.BTC-USD]
asset_class = "crypto"
price = 92_000.0
tick_size = 0.01
lot_size = 0.00001

[instruments.SPY]
asset_class = "etf"
price = 685.0
tick_size = 0.01
lot_size = 1.0

[instruments.DAX]
asset_class = "index"
price = 24_000.0
tick_size = 0.5
lot_size = 1.0
currency = "EUR"
"""

CLIENT = """\
routes = ["oms"]

[accounts]
BTC-USD = { venue = "binance", account = "coins" }
SPY = { venue = "arca", account = "shares" }

[risk]
starting_cash = 90_000.0

[paper.cash]
coins = { USD = 60_000.0 }
shares = { USD = 30_000.0 }

[[strategies]]
id = "cross"
strategy = "moving_average_crossover"
symbols = ["BTC-USD", "SPY"]
timeframe = "1m"
"""


def load(folder: Path, client: str = CLIENT, environment: str = ENVIRONMENT) -> ClientConfig:
    home = Home(folder)
    for path, text in ((home.environment_config("local-dev"), environment), (home.client_config("acme"), client)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    loaded = load_environment(home, "local-dev", environ={})
    return load_client(home, "acme", loaded, environ={}).value


def test_fills_are_as_the_environment_says_and_the_client_and_the_symbol_say_otherwise(tmp_path: Path) -> None:
    client = CLIENT + "\n[paper]\nslippage_bps = 3.0\n\n[paper.symbols.SPY]\nlatency_ms = 5.0\n"
    paper = load(tmp_path, client).paper

    coins, shares = fill_settings(paper, "BTC-USD"), fill_settings(paper, "SPY")
    assert (coins.latency_ns, coins.slippage_bps, coins.fees.taker) == (20_000_000, 3.0, D("0.0005"))
    assert (shares.latency_ns, shares.slippage_bps) == (5_000_000, 3.0)
    assert (shares.fees.taker, shares.fees.per_share, shares.fees.minimum) == (0, D("0.005"), 1)


def test_accounts_begin_with_the_cash_that_the_file_gives_them(tmp_path: Path) -> None:
    assert opening_cash(load(tmp_path)) == {"coins": {"USD": 60_000}, "shares": {"USD": 30_000}}


def test_a_single_account_begins_with_all_that_the_client_has(tmp_path: Path) -> None:
    client = CLIENT.replace('account = "shares"', 'account = "coins"').partition("[paper.cash]")[0]
    client += CLIENT[CLIENT.index("[[strategies]]") :]

    assert opening_cash(load(tmp_path, client)) == {"coins": {"USD": 90_000}}


BROKEN = [
    (
        "starting_cash = 90_000.0",
        "starting_cash = 100_000.0",
        "risk.starting_cash: expected the cash of all accounts, 90000.0, found 100000.0",
    ),
    (
        "coins = { USD = 60_000.0 }\nshares = { USD = 30_000.0 }\n",
        "",
        "paper.cash: expected the cash of each account, since there are coins, shares, found nothing",
    ),
    (
        "shares = { USD",
        "share = { USD",
        'paper.cash.share: expected one of the accounts coins, shares, found "share"',
    ),
    (
        "shares = { USD = 30_000.0 }",
        "shares = { USD = 30_000.0, EUR = 5_000.0 }",
        "risk.rates.EUR: expected what one EUR is worth in USD, since paper.cash.shares has it, found nothing",
    ),
    (
        'symbols = ["BTC-USD", "SPY"]',
        'symbols = ["BTC-USD", "ETH-USD"]',
        'strategies[0].symbols[1] (cross): expected an instrument of configs/local-dev.toml, found "ETH-USD"; it has '
        "BTC-USD, SPY, DAX",
    ),
    (
        "[paper.cash]",
        "[paper.symbols.BTC-USDT]\nqueue = 'touch'\n\n[paper.cash]",
        'paper.symbols.BTC-USDT: expected an instrument, found "BTC-USDT"; did you mean "BTC-USD"?',
    ),
    (
        "starting_cash = 90_000.0",
        "starting_cash = 90_000.0\nrates = { USD = 1.0 }",
        'risk.rates.USD: expected other currencies than risk.currency, of which one is worth one, found "USD"',
    ),
    (
        "[paper.cash]",
        "[oms]\nkind = 'grpc'\n\n[paper.cash]",
        'oms.address: expected an address such as HOST:PORT, since oms.kind is "grpc", found nothing',
    ),
    (
        "[paper.cash]",
        "[oms]\nkind = 'grpc'\naddress = 'https://user:xyzzy@host'\n\n[paper.cash]",
        "oms.address: expected an address such as HOST:PORT, found something else (not shown)",
    ),
    (
        "[paper.cash]",
        "[oms.tls]\ncertificate = { file = '/x' }\n\n[paper.cash]",
        "oms.tls.key: expected one, since oms.tls.certificate is given, found nothing",
    ),
    (
        "[paper.cash]",
        "[oms.tls]\nroot = 'BEGIN'\n\n[paper.cash]",
        'oms.tls.root: expected a reference, { env = "NAME" }, { file = "PATH" } or { credential = "NAME" }, found a literal '
        "string (not shown); a secret never stands in a configuration",
    ),
    (
        "[paper.cash]",
        "[oms.nats]\nuser = 'me'\ntoken = { env = 'T' }\n\n[paper.cash]",
        "oms.nats.password: expected one, since oms.nats.user is given, found nothing",
    ),
    (
        "[paper.cash]",
        "[oms.nats]\ncredentials = { env = 'C' }\ntoken = { env = 'T' }\n\n[paper.cash]",
        "oms.nats.credentials: expected one of password, token and credentials, found token and credentials",
    ),
    (
        "[paper.cash]",
        "[oms.nats]\nserver = 'nats://nats.example.com:4222'\n\n[paper.cash]",
        'oms.nats.server: expected tls:// or [oms.nats.tls] for a server on another host, found "nats://nats.example.com:4222": '
        "plain text on a network",
    ),
    (
        "[paper.cash]",
        "[paper.fees]\ntaker = 5\n\n[paper.cash]",
        "paper.fees.taker: expected a number in [0, 1], found 5",
    ),
    # more digits than the paper OMS of all clients counts with: it ended
    (
        "[paper.cash]",
        "[paper.fees]\nper_share = 1e308\n\n[paper.cash]",
        "paper.fees.per_share: expected a number in [0, 1000000000000000], found 1e+308",
    ),
    (
        "[paper.cash]",
        "[paper]\nslippage_bps = 1e308\n\n[paper.cash]",
        "paper.slippage_bps: expected a number in [0, 10000], found 1e+308",
    ),
    (
        "[paper.cash]",
        "[paper.symbols.SPY]\nimpact = 1e308\n\n[paper.cash]",
        "paper.symbols.SPY.impact: expected a number in [0, 100], found 1e+308",
    ),
    (
        "coins = { USD = 60_000.0 }",
        "coins = { USD = 1e308 }",
        "paper.cash.coins.USD: expected a number in (0, 1000000000000000], found 1e+308",
    ),
]


@pytest.mark.parametrize(("old", "new", "problem"), BROKEN, ids=lambda value: str(value)[:40])
def test_a_client_that_sends_orders_says_all_that_they_need(tmp_path: Path, old: str, new: str, problem: str) -> None:
    assert CLIENT.count(old) == 1
    broken = CLIENT.replace(old, new)
    if "ETH-USD" in new:
        broken = broken.replace("SPY = {", "ETH-USD = {")
    with pytest.raises(ConfigurationError) as refused:
        load(tmp_path, broken)

    assert f"clients/acme/client.toml: {problem}" in refused.value.problems


def test_what_is_quoted_in_another_currency_needs_its_worth(tmp_path: Path) -> None:
    client = CLIENT.replace("SPY", "DAX")
    with pytest.raises(ConfigurationError) as refused:
        load(tmp_path, client)
    assert refused.value.problems == (
        "clients/acme/client.toml: risk.rates.EUR: expected what one EUR is worth in USD, since DAX is quoted in it, found "
        "nothing",
    )
    euros = client.replace("shares = { USD = 30_000.0 }", "shares = { EUR = 30_000.0 }")
    euros = euros.replace("starting_cash = 90_000.0", "starting_cash = 92_400.0\nrates = { EUR = 1.08 }")
    assert opening_cash(load(tmp_path, euros))["shares"] == {"EUR": 30_000}


def test_a_client_that_sends_no_orders_needs_none_of_it(tmp_path: Path) -> None:
    client = CLIENT.replace('["oms"]', "[]").replace("SPY", "DAX").replace("shares = { USD = 30_000.0 }\n", "")

    assert load(tmp_path, client).routes == ()

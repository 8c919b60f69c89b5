"""apply: an edited file changes the workers it concerns, and every other process keeps its pid."""

import json
from contextlib import closing
from decimal import Decimal
from typing import Any

import pytest
from end_to_end.harness import CROSSOVER, Firm, until
from end_to_end.own_strategies import KEEPER
from end_to_end.recordings import write_bars
from oms.paper_build import request

from strategy_runner.config.schema import RiskConfig
from strategy_runner.config.spec import FeedSpec, read_spec
from strategy_runner.risk import events
from strategy_runner.risk.limits import limits_of
from strategy_runner.router.order_entry import Intended
from strategy_runner.router.order_journal import OrderJournal
from strategy_runner.router.risk_record import RiskRecord

ACCOUNTS = """
[accounts]
BTC-USD = { venue = "binance", account = "acme-main" }
ETH-USD = { venue = "binance", account = "acme-main" }
SOL-USD = { venue = "coinbase", account = "acme-main" }
"""
ACME = (
    ACCOUNTS
    + """
[[strategies]]
id = "cross"
strategy = "moving_average_crossover"
symbols = ["BTC-USD", "ETH-USD"]
timeframe = "10s"
params = { fast = 2, slow = 4 }

[[strategies]]
id = "revert"
strategy = "mean_reversion"
symbols = ["BTC-USD", "ETH-USD"]
timeframe = "10s"
params = { window = 10 }
"""
)
OTHER = ACME.replace('id = "cross"', 'id = "theirs"')
FILE = "clients/acme/client.toml"
CROSS = {"acme:cross.BTC-USD", "acme:cross.ETH-USD"}
REVERT = {"acme:revert.BTC-USD", "acme:revert.ETH-USD"}


def test_apply_touches_only_the_workers_that_an_edit_concerns(firm: Firm) -> None:
    firm.write(FILE, ACME)
    firm.write("clients/other/client.toml", OTHER)
    firm.run("start", "all")
    before = firm.pids()
    assert changes(firm) == {}
    assert firm.run("apply").err == "nothing to change\n"

    # a symbol more: one new process; the feed and the router take it in as they run
    firm.edit(FILE, '["BTC-USD", "ETH-USD"]\ntimeframe = "10s"\nparams = { fast', ADDED)
    new = "acme:cross.SOL-USD"
    assert changes(firm) == {new: "start", "market:feed": "reload", "acme:router": "reload"}
    assert firm.run("apply").err == f"started 1: {new}\n"
    with_symbol = firm.pids()
    assert {name: pid for name, pid in with_symbol.items() if name != new} == before
    assert new in with_symbol and with_symbol[new] not in before.values()
    assert changes(firm) == {}
    until(lambda: firm.status(new)[new]["signals"] > 0, "a signal of the new worker")
    assert firm.run("signals", "acme:cross:SOL-USD", "-n", 1, "-o", "name").lines, "the router does not read it"

    # a parameter: that strategy's workers, and no router
    firm.edit(FILE, "fast = 2", "fast = 3")
    assert changes(firm) == dict.fromkeys((*CROSS, new), "restart")
    assert reason(firm, new) == "params.fast: 2 -> 3"
    assert firm.run("apply").err.startswith("restarted 3: acme:cross.BTC-USD, acme:cross.ETH-USD, acme:cross.SOL-USD")
    with_parameter = firm.pids()
    assert with_parameter.keys() == with_symbol.keys()
    assert {name for name, pid in with_parameter.items() if pid != with_symbol[name]} == {*CROSS, new}

    # a strategy less: its workers
    firm.write(FILE, (firm.root / FILE).read_text().partition('[[strategies]]\nid = "revert"')[0])
    assert changes(firm) == {**dict.fromkeys(REVERT, "stop"), "acme:router": "reload"}
    assert firm.run("apply").err == "stopped 2: acme:revert.BTC-USD, acme:revert.ETH-USD\n"
    assert firm.pids() == {name: pid for name, pid in with_parameter.items() if name not in REVERT}
    assert changes(firm) == {}
    until(lambda: every_state(firm) == {"publishing", "watching", "routing", "trading"}, "all at work")


ADDED = '["BTC-USD", "ETH-USD", "SOL-USD"]\ntimeframe = "10s"\nparams = { fast'


def test_a_file_with_a_fault_changes_nothing_and_stops_nothing(firm: Firm) -> None:
    firm.write(FILE, ACME)
    firm.run("start", "acme")
    before = firm.pids()
    firm.edit(FILE, "fast = 2", "fast = 9")
    ran = firm.run("apply", code=6)
    assert ran.err.splitlines() == [
        "nothing to change",
        "clients with broken files run on as before",
        f"error: {FILE}: strategies[0] (cross): params.fast: expected less than slow (4), found 9",
    ]
    assert firm.pids() == before
    rows = firm.run("status", "-o", "json")
    assert {row["name"] for row in rows.json()} == before.keys()
    assert rows.err.startswith(f"warning: {FILE}: ")


def test_a_timeframe_finer_than_the_recorded_bars_is_refused_while_the_simulation_runs_on(firm: Firm) -> None:
    """The feed took it, ended of it, and could not be started again."""
    history = firm.root / "history"
    for symbol in ("BTC-USD", "ETH-USD"):
        write_bars(history, symbol, "1m", bars=2_000)
    firm.edit("configs/local-dev.toml", "[history]", f'[history]\nfolder = "{history}"')
    firm.write(FILE, 'mode = "simulation"\n' + ACME.replace('"10s"', '"1m"'))
    firm.run("start", "acme", "--speed", 60)
    before = firm.pids()
    firm.edit(FILE, 'timeframe = "1m"\nparams = { fast', 'timeframe = "10s"\nparams = { fast')
    for command in ("check", "plan", "apply"):
        ran = firm.run(command, code=6)
        for symbol in ("BTC-USD", "ETH-USD"):
            assert (
                f"{FILE}: strategies[0].timeframe (cross): expected a multiple of 1m, the finest bars of {symbol} in "
                f"{history}, found 10s"
            ) in ran.out + ran.err
    assert firm.pids() == before
    feed = read_spec(firm.home.daemon / "specs" / "market" / "feed.json")
    assert isinstance(feed, FeedSpec) and not any("10s" in stream for stream in feed.streams)

    firm.edit(FILE, 'timeframe = "10s"', 'timeframe = "5m"')
    firm.run("apply")
    name = "acme:cross.BTC-USD"
    until(lambda: firm.status(name)[name]["records"] > 0, "a bar of five minutes")
    assert firm.pids()["market:feed"] == before["market:feed"]


def test_a_change_of_an_own_strategys_code_restarts_its_workers(firm: Firm) -> None:
    firm.write(FILE, ACME)
    firm.run("new-strategy", "acme", "breakout")
    firm.write(FILE, ACME + OWN)
    firm.run("start", "acme")
    before = firm.pids()
    code = "clients/acme/strategies/breakout.py"
    firm.edit(code, "above {self._highs.value", "over {self._highs.value")
    assert changes(firm) == {"acme:own.BTC-USD": "restart"}
    assert reason(firm, "acme:own.BTC-USD") == "the strategy's code, or the version of what runs it"
    firm.run("apply")
    assert {name for name, pid in firm.pids().items() if pid != before[name]} == {"acme:own.BTC-USD"}


def test_a_killed_worker_comes_back_with_the_code_it_was_started_with(firm: Firm) -> None:
    own = "acme:own.BTC-USD"
    firm.write(FILE, ACCOUNTS + OWN.replace("breakout", "chatter").replace("10s", "1s"))
    code = firm.write("clients/acme/strategies/chatter.py", CHATTER.replace("WORD", "before"))
    firm.run("start", "acme")
    for edited in (CHATTER.replace("WORD", "after"), "nonsense("):
        spoken = len(await_words(firm, "before"))
        code.write_text(edited)
        firm.await_new_pid(own, firm.kill(own))
        await_more(firm, spoken)
        assert set(words(firm)) == {"before"}
    firm.run("down")
    spoken = len(words(firm))
    assert "chatter.py: line 1: SyntaxError" in firm.run("up").err
    await_more(firm, spoken)
    assert set(words(firm)) == {"before"}

    code.write_text(CHATTER.replace("WORD", "after"))
    firm.run("apply")
    assert set(await_words(firm, "after")) == {"before", "after"}


CHATTER = '''
"""Says one word at each bar."""

from strategy_runner.model.event import Bar
from strategy_runner.strategies.interface import Inputs, Strategy


class Chatter(Strategy):
    inputs = Inputs(bars=True)

    def on_bar(self, bar: Bar) -> None:
        self.buy("WORD")
'''


def words(firm: Firm) -> list[str]:
    """What the client's only worker has said: the one reason of each of its signals."""
    return [json.loads(body)["reasons"][0] for body in firm.bodies("acme").splitlines()]


def await_words(firm: Firm, last: str) -> list[str]:
    return until(lambda: (words(firm) or [""])[-1] == last and words(firm), f"a signal that says {last}")


def await_more(firm: Firm, spoken: int) -> None:
    until(lambda: len(words(firm)) > spoken + 3, f"signals after the first {spoken}")


OWN = """
[[strategies]]
id = "own"
strategy = "breakout"
symbols = ["BTC-USD"]
timeframe = "10s"
"""


def plan(firm: Firm) -> dict[str, dict[str, Any]]:
    return {change["name"]: change for change in firm.run("plan", "-o", "json").json()}


def changes(firm: Firm, code: int = 0) -> dict[str, str]:
    """What `plan` says that `apply` would do."""
    found = firm.run("plan", "-o", "json", code=code).json()
    return {change["name"]: change["action"] for change in found if change["action"] != "keep"}


def reason(firm: Firm, name: str) -> str:
    return str(plan(firm)[name]["reason"])


def every_state(firm: Firm) -> set[str]:
    return {row["trading_state"] for row in firm.status().values()}


@pytest.mark.parametrize("command", [("apply",), ("start", "acme:cross:BTC-USD")], ids=["apply", "start"])
def test_a_worker_that_goes_and_holds_something_is_told_of(firm: Firm, command: tuple[str, ...]) -> None:
    kept = '[[strategies]]\nid = "kept"\nstrategy = "keeper"\nsymbols = ["BTC-USD"]\ntimeframe = "10s"\n'
    firm.write("clients/acme/strategies/keeper.py", KEEPER)
    firm.write(FILE, f"{CROSSOVER}\n{kept}")
    firm.run("start", "acme")
    until(lambda: firm.run("positions", "acme:kept", "-o", "name").lines, "a position")
    firm.write(FILE, CROSSOVER)
    warning = "warning: acme:kept.BTC-USD holds 2, which no strategy will close: `strategy-runner flatten acme:kept."
    assert changes(firm)["acme:kept.BTC-USD"] == "stop"
    assert warning in firm.run("plan").err
    said = firm.run(*command).err
    assert said.startswith("stopped 1: acme:kept.BTC-USD\n") and warning in said
    firm.run("flatten", "acme:kept.BTC-USD", "--reason", "its strategy has gone")
    until(
        lambda: firm.run("positions", "acme:kept", "-o", "json").json()[0]["quantity"].strip("0.") == "", "nothing held"
    )
    assert "warning" not in firm.run("plan").err


def test_what_no_order_could_close_any_more_is_told_before_the_files_say_so(firm: Firm) -> None:
    kept = '[[strategies]]\nid = "kept"\nstrategy = "keeper"\nsymbols = ["BTC-USD"]\ntimeframe = "10s"\n'
    account = '[accounts]\nBTC-USD = { venue = "binance", account = "main" }\n'
    file = f'routes = ["oms"]\n{account}{kept}'
    firm.write("clients/acme/strategies/keeper.py", KEEPER.replace("2.0", "2.5"))
    firm.write(FILE, file)
    firm.run("start", "acme")
    until(lambda: firm.run("positions", "acme:kept", "-o", "name").lines, "a position")

    # another account: its orders would go there, and the position stay
    firm.edit(FILE, 'account = "main"', 'account = "other"')
    refused = (
        "accounts.BTC-USD.account: expected main, where acme:kept.BTC-USD holds 2.5, found other: make it flat first"
    )
    assert refused in firm.run("check", code=6).out
    assert refused in firm.run("plan", code=6).err
    assert refused in firm.run("apply", code=6).err
    assert changes(firm, code=6) == {}
    firm.run("stop", "acme")
    assert refused in firm.run("start", "acme", code=8).err
    firm.write(FILE, file)
    firm.run("start", "acme")
    assert "warning" not in firm.run("plan").err

    # another venue: they would go there too
    firm.edit(FILE, '"binance"', '"kraken"')
    refused = (
        "accounts.BTC-USD.venue: expected binance, where acme:kept.BTC-USD holds 2.5, found kraken: make it flat first"
    )
    assert refused in firm.run("check", code=6).out
    assert refused in firm.run("apply", code=6).err
    firm.write(FILE, file)

    # no orders
    firm.edit(FILE, '["oms"]', '["quantconnect"]')
    warning = "warning: acme:kept.BTC-USD holds 2.5, and goes on without orders"
    assert warning in firm.run("plan").err
    assert warning in firm.run("check").out
    firm.write(FILE, file)

    # a larger lot
    firm.edit(
        "configs/local-dev.toml",
        "lot_size = 0.00001\n\n[instruments.ETH-USD]",
        "lot_size = 1.0\n\n[instruments.ETH-USD]",
    )
    warning = "warning: acme:kept.BTC-USD holds 2.5, and its lot is 1: a close takes 2, and the next one asks"
    assert warning in firm.run("plan").err
    assert warning in firm.run("check").out
    assert warning in firm.run("apply").err
    assert warning in firm.run("start", "acme").err
    firm.run("flatten", "acme:kept.BTC-USD", "--reason", "the lot is another")
    until(
        lambda: firm.run("positions", "acme:kept", "-o", "json").json()[0]["quantity"].strip("0.") == "", "nothing held"
    )
    assert "warning" not in firm.run("plan").err

    # and flat, account and venue may be others
    firm.edit(FILE, 'venue = "binance", account = "main"', 'venue = "kraken", account = "other"')
    firm.run("apply")


def test_another_account_or_venue_is_refused_while_something_is_entered_in_the_one_before(firm: Firm) -> None:
    firm.write("clients/acme/strategies/keeper.py", KEEPER)
    kept = '[[strategies]]\nid = "kept"\nstrategy = "keeper"\nsymbols = ["BTC-USD"]\ntimeframe = "10s"\n'
    account = '[accounts]\nBTC-USD = { venue = "binance", account = "other" }\n'
    firm.write(FILE, f'routes = ["oms"]\n{account}{kept}')
    journal = OrderJournal(firm.home.router("acme", "mock"), firm.home.fills("acme", "mock"), "acme", {})
    resting = request(strategy="kept", symbol="BTC-USD", venue="binance", type="limit", limit_price="1")
    journal.append([Intended(at_ns=1, order=resting, decision=0)])
    journal.close()
    assert "expected main, where acme:kept.BTC-USD is entering 1, found other" in firm.run("check", code=6).out
    firm.edit(FILE, '"other"', '"main"')
    firm.run("check")
    firm.edit(FILE, '"binance"', '"kraken"')
    assert "expected binance, where acme:kept.BTC-USD is entering 1, found kraken" in firm.run("check", code=6).out


def test_a_command_that_runs_another_numpy_than_the_daemon_is_refused_and_stops_nothing(firm: Firm) -> None:
    """No worker that it plans would start: the daemon's has the other one loaded."""
    firm.write(FILE, CROSSOVER)
    firm.run("start", "acme")
    pids = {name: row["pid"] for name, row in firm.status().items()}
    firm.write("newer/sitecustomize.py", "import numpy\nnumpy.__version__ = '99.0'\n")
    newer = {"PYTHONPATH": str(firm.root / "newer")}
    for command in (("apply",), ("start", "acme")):
        refused = firm.run(*command, code=8, environ=newer).err
        assert "error: numpy: expected " in refused and "which the daemon runs, found 99.0" in refused
    assert {name: row["pid"] for name, row in firm.status().items()} == pids
    firm.run("apply")


def test_another_currency_of_a_client_that_has_counted_is_refused_and_another_cash_told(firm: Firm) -> None:
    """What it began with in dollars went on as so many euros, and its highest equity as well: breakers opened by nothing."""
    firm.write(FILE, CROSSOVER)
    firm.run("check")
    folder = firm.home.router("acme", "mock")
    with closing(RiskRecord(folder, "acme", "mock")) as record:
        limits = limits_of(RiskConfig(), {})
        record.take(events.Configured(at_ns=1, limits=limits, day=1, starting_cash=Decimal(100_000)))
        record.note(force=True)
    assert "warning" not in firm.run("check").out
    firm.write(FILE, f"{CROSSOVER}\n[risk]\nstarting_cash = 50_000.0\n")
    assert "acme: risk.starting_cash is 50000 now, and it began with 100000: its limits" in firm.run("check").out
    firm.write(FILE, f'{CROSSOVER}\n[risk]\ncurrency = "EUR"\nrates = {{ USD = 0.9 }}\n')
    refused = (
        "acme: risk.currency: expected USD, in which its cash and profits were counted so far, found EUR: put it back"
    )
    assert refused in firm.run("check", code=6).out
    assert refused in firm.run("start", "acme", code=8).err

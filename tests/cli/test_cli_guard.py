"""Every command that would run a strategy refuses one that a replay cannot repeat, by file and line, before anything starts."""

from collections.abc import Iterator

import pytest
from end_to_end.harness import Firm, assert_one_message
from end_to_end.recordings import write_market

CONFIGURATION = 6
CLIENT = """
[accounts]
BTC-USD = { venue = "binance", account = "acme-main" }

[[strategies]]
id = "late"
strategy = "late"
symbols = ["BTC-USD"]
timeframe = "1s"
"""
LATE = """import email.utils
import time
from strategy_runner.strategies.interface import Inputs, Strategy


class Late(Strategy):
    inputs = Inputs(trades=True)

    def on_trade(self, trade):
        self.buy("now", str(CALL))
"""
OWN = "clients/acme/strategies/late.py"
FOUND = "expected the time of the record, found the clock of this machine; use self.now_ns"


@pytest.fixture(scope="module")
def home() -> Iterator[Firm]:
    with Firm() as firm:
        firm.write("clients/acme/client.toml", CLIENT)
        write_market(firm.root / "history", "BTC-USD", seed=1, seconds=20, per_second=5)
        yield firm
        assert not firm.home.supervisor_socket.exists(), "nothing here may have started a daemon"


def test_check_plan_start_and_backtest_refuse_the_file_and_line(home: Firm) -> None:
    home.write("clients/acme/strategies/late.py", LATE.replace("CALL", "time.time()"))
    problem = f"clients/acme/strategies/late.py:10: time.time(): {FOUND}"
    checked = home.run("check", "acme", code=CONFIGURATION)
    assert checked.lines == [f"error: {problem}"]
    history = home.root / "history"
    for arguments in (("plan", "acme"), ("start", "acme"), ("backtest", "acme", "--history", history)):
        assert_one_message(home.run(*arguments, code=None), CONFIGURATION, problem)
    assert not home.home.client_state("acme", "historical").exists()


def test_a_backtest_ends_where_a_library_asks_for_the_time_and_names_record_file_and_line(home: Firm) -> None:
    home.write("clients/acme/strategies/late.py", LATE.replace("CALL", "email.utils.formatdate()"))
    assert home.run("check", "acme").err == "ok: acme\n", "what a library does cannot be read"
    ran = home.run("backtest", "acme", "--history", home.root / "history", code=1)
    message = ran.err[ran.err.index("error: ") :].splitlines()[0]
    assert message.startswith("error: acme:late.BTC-USD: BTC-USD/trade ordinal 0: DeterminismError: ")
    assert f"clients/acme/strategies/late.py:10: time.time() in email.utils: {FOUND} (record: Trade(" in message


def test_the_same_strategy_with_the_records_time_runs(home: Firm) -> None:
    home.write("clients/acme/strategies/late.py", LATE.replace("CALL", "self.now_ns"))
    assert home.run("check", "acme").err == "ok: acme\n"
    ran = home.run("backtest", "acme", "--history", home.root / "history", "-o", "json")
    assert '"signals":100' in ran.out.replace(" ", "")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("self.rule = lambda price: price > 1", "state: expected values that pickle, found self.rule (function): "),
        ("raise ValueError('no')", "on_start: ValueError: no"),
        ("email.utils.formatdate()", f"on_start: DeterminismError: {OWN}:10: time.time() in email.utils: {FOUND}"),
        ("self.buy(); self.predictions_of('none')", "on_start: ValueError: "),
    ],
)
def test_check_begins_each_strategy_once_and_tells_what_its_worker_would_end_with(
    home: Firm, line: str, problem: str
) -> None:
    source = LATE.replace("on_trade(self, trade)", "on_start(self)").replace('self.buy("now", str(CALL))', line)
    home.write(OWN, source)
    checked = home.run("check", "acme", code=CONFIGURATION)
    assert checked.lines[0].startswith(f"error: {OWN}: late: {problem}")
    assert len(checked.lines) == 1

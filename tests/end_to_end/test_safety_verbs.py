"""halt, flatten and stop act on whatever runs, through the real daemon: whatever became of files, folders and other runs."""

from collections.abc import Iterator

import pytest
from end_to_end.harness import Firm, assert_one_message, until
from end_to_end.recordings import write_market

from strategy_runner.router.operator_log import read_actions

CLIENT = """
routes = ["oms"]

[accounts]
BTC-USD = { venue = "binance", account = "main" }
ETH-USD = { venue = "binance", account = "main" }

[[strategies]]
id = "cross"
strategy = "moving_average_crossover"
symbols = ["BTC-USD", "ETH-USD"]
timeframe = "10s"
params = { fast = 2, slow = 4 }
size = 0.5
"""
WORKER = "acme:cross.BTC-USD"


@pytest.fixture(scope="module")
def desk() -> Iterator[Firm]:
    """Two clients, acme and other; each test leaves both at work and unhalted."""
    with Firm() as firm:
        for client in ("acme", "other"):
            firm.write(f"clients/{client}/client.toml", CLIENT)
        write_history(firm)
        firm.run("start", "all")
        yield firm


def write_history(firm: Firm) -> None:
    for seed, symbol in enumerate(("BTC-USD", "ETH-USD")):
        write_market(firm.root / "history", symbol, seed=seed, seconds=100, per_second=5)


def asked(firm: Firm, client: str, mode: str = "mock") -> list[str]:
    """What people asked of a client's trading, in their order."""
    verbs = (action.request.verb for action in read_actions(firm.home.client_state(client, mode)))
    return [verb for verb in verbs if verb != "configure"]


def state(firm: Firm, worker: str = WORKER) -> str:
    return str(firm.status(worker)[worker]["trading_state"])


def test_a_backtest_beside_it_takes_the_operators_hand_off_no_run(desk: Firm) -> None:
    until(lambda: desk.run("fills", "acme", "-o", "name").lines, "fills")
    ran = desk.run("backtest", "acme", "--history", desk.root / "history")
    assert ran.err.rstrip().endswith("signals acme --mode historical")

    assert "acme: halted, exits pass, mock run, action" in desk.run("halt", "acme", "--reason", "test").err
    assert (state(desk), asked(desk, "acme")) == ("reducing", ["halt"])
    assert desk.run("risk", "acme", "-o", "json").json()
    assert "flattening, mock run" in desk.run("flatten", "acme", "--reason", "test").err
    assert "are those of the OMS" in desk.run("reconcile", "acme").err

    # and once it is stopped it is the run that the next start goes on with
    desk.run("stop", "acme")
    ours = desk.run("fills", "acme", "--mode", "mock", "-o", "name").lines
    assert ours and desk.run("fills", "acme", "-o", "name").lines == ours
    assert "of the mock run" in desk.run("resume", "acme", "--reason", "test").err
    desk.run("start", "acme")
    assert state(desk) == "trading"


def test_a_backtest_after_a_run_leaves_it_the_one_that_is_halted(desk: Firm) -> None:
    desk.run("stop", "acme")
    for _ in range(2):  # the second takes the place of the first
        desk.run("backtest", "acme", "--history", desk.root / "history")
    assert "of the mock run" in desk.run("halt", "acme", "--reason", "test").err
    desk.run("start", "acme")
    assert state(desk) == "reducing"
    desk.run("resume", "acme", "--reason", "test")


def test_a_backtest_alone_is_nothing_that_could_be_halted(firm: Firm) -> None:
    firm.write("clients/acme/client.toml", CLIENT)
    write_history(firm)
    firm.run("backtest", "acme", "--history", firm.root / "history")
    assert_one_message(firm.run("halt", "acme", "--reason", "test", code=None), 2, "expected a client that runs")
    assert not firm.home.client_state("acme", "historical").joinpath("operator.log").exists()

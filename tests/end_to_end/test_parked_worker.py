"""A strategy that fails at one record, in front of an operator: parked, explained, resumed without the record."""

from typing import Any

from end_to_end.harness import Firm, assert_one_message, until

CLIENT = """
[accounts]
BTC-USD = { venue = "binance", account = "acme-main" }
ETH-USD = { venue = "binance", account = "acme-main" }

[[strategies]]
id = "fussy"
strategy = "fussy"
symbols = ["BTC-USD"]
timeframe = "1s"

[[strategies]]
id = "cross"
strategy = "moving_average_crossover"
symbols = ["ETH-USD"]
timeframe = "1s"
params = { fast = 2, slow = 4 }
"""
# fails at the twelfth tick of an unbroken row of them; a tick left out breaks the row
FUSSY = """
from strategy_runner.model.event import Timer
from strategy_runner.strategies.interface import Inputs, Strategy


class Fussy(Strategy):
    inputs = Inputs(timer="10s", trades=True)

    def on_start(self) -> None:
        self.last_ns, self.row, self.broken = 0, 0, False

    def on_timer(self, timer: Timer) -> None:
        self.broken = self.broken or self.row > 0 and timer.event_ns - self.last_ns > timer.interval_ns
        self.row, self.last_ns = self.row + 1, timer.event_ns
        if self.row == 12 and not self.broken:
            raise RuntimeError("a row of twelve")
        self.buy(f"tick {self.row}", size=1.0)
"""
PARKED = "acme:fussy.BTC-USD"
OTHER = "acme:cross.ETH-USD"


def test_a_parked_worker_is_shown_explained_and_brought_back_without_its_record_and_disturbs_nobody(firm: Firm) -> None:
    firm.write("clients/acme/client.toml", CLIENT)
    firm.write("clients/acme/strategies/fussy.py", FUSSY)
    firm.run("start", "acme", code=None)  # it may fail before all are ready, or after
    before = firm.pids()
    # a life that failed after it had started shows EXITED too, until supervisord begins the next
    until(
        lambda: (firm.status()[PARKED]["trading_state"], firm.states().get(PARKED)) == ("parked", "EXITED"), "its end"
    )
    rows = firm.status()
    row = rows[PARKED]
    assert (row["process_state"], row["trading_state"], row["pid"]) == ("EXITED", "parked", None)
    assert row["since_s"] is not None
    assert rows[OTHER]["trading_state"] == "trading"
    others = {name: pid for name, pid in before.items() if name != PARKED}
    assert {name: pid for name, pid in firm.pids().items() if name != PARKED} == others

    told = dict(firm.run("explain", "acme:fussy:BTC-USD", "-o", "json").json()["chapters"])
    assert list(told) == ["worker", "record", "ends", "error", "way out"]
    stream, on_tape = told["record"]
    seq = int(on_tape.split(",")[0].removeprefix("seq "))
    assert stream.startswith("BTC-USD/clock.10s ordinal ")
    assert told["worker"][1] == f"parked at seq {seq} ({stream.split(',')[0]}): 3 tries"
    assert len(told["ends"]) == 3
    assert "RuntimeError: a row of twelve" in told["error"][0]
    assert "--skip" in told["way out"][1]
    for word in (f"seq {seq} ({stream.split(',')[0]}): 3 tries: ", "a row of twelve", f"resume {PARKED}"):
        assert word in row["reason"]
    ran = firm.run("start", "acme", code=1)
    assert f"error: {PARKED}: parked: seq {seq} (" in ran.err
    assert f"strategy-runner resume {PARKED}" in ran.err

    # a worker that parks itself again keeps nobody else from going on
    firm.run("halt", "acme", "--reason", "a test")
    assert_one_message(firm.run("resume", "acme", code=2), 2, "--reason")
    assert f"error: {PARKED}: parked: seq {seq} (" in firm.run("resume", "acme", "--reason", "a test", code=1).err
    assert firm.status()[OTHER]["trading_state"] == "trading"

    ran = firm.run("resume", PARKED, "--skip", "--reason", "twelve are enough")
    assert ran.err.startswith(f"resumed {PARKED}, without seq {seq} (BTC-USD/clock.10s ordinal ")
    resumed = row_of(firm)
    assert resumed["trading_state"] == "trading" and "parked" not in resumed["reason"]
    until(lambda: row_of(firm)["signals"] >= row["signals"] + 4, "signals beyond the record")
    assert_one_message(
        firm.run("resume", PARKED, code=2), 2, "expected something stopped or parked, found nothing of exactly that"
    )
    assert "twelve are enough" in firm.run("explain", PARKED).out
    firm.run("parity", PARKED)


def row_of(firm: Firm) -> dict[str, Any]:
    return firm.status(PARKED)[PARKED]


STUCK = """
from strategy_runner.strategies.interface import Inputs, Strategy


class Fussy(Strategy):
    inputs = Inputs(trades=True)

    def on_start(self) -> None:
        while True:
            pass
"""


def test_a_worker_that_hangs_in_on_start_says_so_and_is_parked_after_three_tries(firm: Firm) -> None:
    firm.edit("configs/local-dev.toml", "start_s = 120.0", "start_s = 1.0")
    firm.write("clients/acme/client.toml", CLIENT)
    firm.write("clients/acme/strategies/fussy.py", STUCK)
    firm.run("start", "acme", "--no-wait")
    until(lambda: row_of(firm)["reason"].startswith("in on_start"), "a word of where it is")
    until(lambda: row_of(firm)["trading_state"] == "parked", "its end")
    assert row_of(firm)["reason"].startswith(
        "ended 3 times before its first record: the process ended inside on_start without a word: it crashed, or it hung"
    )
    told = dict(firm.run("explain", PARKED, "-o", "json").json()["chapters"])
    assert told["worker"][1] == "parked: ended 3 times before its first record"
    assert not any("--skip" in line for line in told["way out"])
    refused = firm.run("resume", PARKED, "--skip", "--reason", "a test", code=8)
    assert "found none: parked because it ended 3 times before its first record" in refused.err
    assert firm.status()[OTHER]["trading_state"] == "trading"

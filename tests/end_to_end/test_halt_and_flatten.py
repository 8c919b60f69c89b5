"""The operator's hand through the real daemon: what a person types holds within two seconds, and is on record."""

import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from end_to_end.harness import Firm, assert_one_message, until

from strategy_runner.model.private import PrivateEntry
from strategy_runner.router.journal import DecisionReader, decision_log
from strategy_runner.router.order_journal import order_log, read_fills
from strategy_runner.router.order_rows import OrderRow, order_rows
from strategy_runner.supervision.performance_report import LEVELS
from strategy_runner.tape.lock import holder

WORKER = "acme:cross.BTC-USD"
CLIENT = """
routes = ["oms", "quantconnect"]

[accounts]
BTC-USD = { venue = "binance", account = "acme-main" }

[[strategies]]
id = "cross"
strategy = "moving_average_crossover"
symbols = ["BTC-USD"]
timeframe = "10s"
time_to_live_s = 60.0
on_restart = "hold"
params = { fast = 2, slow = 4 }
size = 0.5
"""


@pytest.fixture
def desk() -> Iterator[Firm]:
    with Firm() as firm:
        firm.write("clients/acme/client.toml", CLIENT)
        # the watchdog would end a router that hangs too, later: it is to be the operator here
        firm.run("start", "acme", environ={"STRATEGY_RUNNER__WATCHDOG__HANG_S": "600"})
        yield firm


def decisions(firm: Firm) -> list[Any]:
    reader = DecisionReader(decision_log(firm.home.router("acme", "mock")))
    found = []
    while more := reader.read():
        found += more
    reader.close()  # a home is left with no file of it open
    return found


def router(firm: Firm) -> Path:
    return firm.home.router("acme", "mock")


def test_a_halt_holds_within_two_seconds_though_the_router_hangs(desk: Firm) -> None:
    until(lambda: len(fills(desk)) > 2, "fills")
    hung = holder(router(desk))
    os.kill(hung, signal.SIGSTOP)
    ran = desk.run("halt", "acme:cross", "--reason", "it hangs")
    assert f"process {hung}, did not answer and was ended" in ran.err
    took_s = float(ran.err.rpartition("in force after ")[2].split()[0])
    assert took_s < 2.0, "the time until nothing could trade any more"
    assert holder(router(desk)) not in (0, hung)

    row = desk.status(WORKER)[WORKER]
    assert row["trading_state"] == "reducing"
    assert "it hangs" in row["reason"] and "resume acme:cross --reason" in row["reason"]
    shown = desk.run("risk", "acme", "-o", "json").json()
    assert {(gauge["breaker"], gauge["strategy"], gauge["posture"]) for gauge in shown} >= {
        ("operator", "cross", "reducing")
    }
    count = len(decisions(desk))
    until(lambda: len(decisions(desk)) > count + 3, "signals of the halted strategy")
    entries = [one for one in decisions(desk)[count:] if one.orders and not one.orders[0].reduce_only]
    assert not entries


def test_what_is_stopped_is_lifted_by_its_own_name_alone(desk: Firm) -> None:
    desk.run("halt", "acme:cross", "--reason", "a test")
    wrong = desk.run("resume", "acme", "--reason", "a test", code=None)
    assert_one_message(wrong, 2, "found nothing of exactly that", "acme:cross")
    assert_one_message(desk.run("resume", "acme:cross", code=None), 2, "--reason")
    assert_one_message(desk.run("halt", "acme:crosss", "--reason", "a test", code=None), 2, "cross.BTC-USD")
    desk.run("resume", "acme:cross", "--reason", "it works again")
    assert desk.status(WORKER)[WORKER]["trading_state"] == "trading"


def test_a_worker_that_can_write_nothing_says_so_while_it_waits(desk: Firm) -> None:
    pid = desk.status(WORKER)[WORKER]["pid"]
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, before[1]))
    try:
        until(lambda: "cannot write signals" in desk.status(WORKER)[WORKER]["reason"], "a word of it")
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
    until(lambda: not desk.status(WORKER)[WORKER]["reason"], "nothing to say again")
    assert desk.status(WORKER)[WORKER]["pid"] == pid


def test_flatten_leaves_nothing_and_the_trail_has_it_all(desk: Firm) -> None:
    until(lambda: _held(desk), "a position")
    assert len({row["open"] for row in desk.run("report", "acme", "-o", "json").json()}) == 1  # while prices go on
    desk.run("flatten", "acme:*:BTC-USD", "--halt", "--reason", "enough")
    until(lambda: not _held(desk) and not _open_orders(desk), "nothing left")
    assert len(desk.run("fills", "acme", "-o", "name").lines) == sum(one.event.fill is not None for one in fills(desk))
    assert "are those of the OMS" in desk.run("reconcile", "acme").err

    (holding,) = desk.run("positions", "acme", "-o", "json").json()
    rows = {row["level"]: row for row in desk.run("report", "acme", "-o", "json").json()}
    assert set(rows) == set(LEVELS) - {"model"}
    assert {row["closed"]["result"] for row in rows.values()} == {rows["client"]["closed"]["result"]}
    assert float(rows["client"]["closed"]["result"]) == pytest.approx(float(holding["profit"]), abs=0.01)

    assert "entries whole" in desk.run("audit", "verify", "acme").out
    told = desk.run("audit", "export", "acme", "--format", "json").objects()
    assert desk.run("audit", "export", "acme", "-o", "json").objects()[: len(told)] == told
    asked = [row["what"] for row in told if row["source"] == "operator" and row["what"] != "operator configure"]
    assert asked == [f"operator {verb}" for verb in ("halt", "flatten", "reconcile")]
    assert {"signal accepted", "order entry", "fill", "breaker operator opened", "operator configure"} <= {
        row["what"] for row in told
    }


def test_an_order_is_explained_by_its_signal_or_by_what_a_person_asked_for(desk: Firm) -> None:
    until(lambda: _flattened(desk), "an order that makes flat")
    first, last = fills(desk)[0], _flattened(desk)[0]
    order, fill = first.event.fill.client_order_id, first.event.fill.fill_id
    story = desk.run("explain", first.signal_id).out
    assert order in story and fill in story
    assert desk.run("explain", order).out == desk.run("explain", fill).out == story
    unknown = desk.run("explain", order[::-1], code=None)
    assert_one_message(unknown, 2, "the id of a signal, order or fill that there is")

    told = dict(desk.run("explain", last.client_order_id, "-o", "json").json()["chapters"])
    assert ": flatten acme, " in told["operator"][0] and told["operator"][0].endswith(": enough")
    assert told["orders"][0].startswith(f"flatten: {last.side} {last.quantity} market, ")


def _flattened(desk: Firm) -> list[OrderRow]:
    """The orders of `flatten`, which is asked for until it has found something to exit."""
    found = [one for one in order_rows(order_log(router(desk))) if one.leg == "flatten"]
    if not found and _held(desk):
        desk.run("flatten", "acme", "--reason", "enough")
    return found


def fills(desk: Firm) -> list[PrivateEntry]:
    return list(read_fills(desk.home.fills("acme", "mock")))


def _held(desk: Firm) -> bool:
    told = fills(desk)
    return bool(told and told[-1].position.quantity)


def _open_orders(desk: Firm) -> list[OrderRow]:
    return [one for one in order_rows(order_log(router(desk))) if one.is_open]


def test_what_is_only_observed_is_recorded_and_goes_nowhere_not_even_later(desk: Firm) -> None:
    until(lambda: _held(desk), "a position")
    desk.run("flatten", "acme:*:BTC-USD", "--halt", "--reason", "nothing is to be held")
    until(lambda: not _held(desk) and not _open_orders(desk), "nothing left")
    desk.run("stop", "acme")
    desk.run("resume", "acme:*:BTC-USD", "--reason", "while nothing runs")
    traded = order_rows(order_log(router(desk)))
    lines = _csv_lines(desk)
    count = len(decisions(desk))
    desk.run("start", "acme", "--observe")
    assert desk.status(WORKER)[WORKER]["trading_state"] == "observing"
    until(lambda: any(one.verdict == "accepted" for one in decisions(desk)[count:]), "observed signals")
    desk.run("stop", "acme")
    observed = decisions(desk)[count:]
    assert all(one.is_observed and not one.orders for one in observed)
    assert order_rows(order_log(router(desk))) == traded and _csv_lines(desk) == lines
    assert "code or versions" not in desk.run("parity", WORKER).out, "nothing has changed since"

    desk.run("start", "acme")
    until(lambda: _csv_lines(desk) > lines, "signals that are routed again")
    ids = {one.signal_id for one in observed}
    text = "".join(path.read_text() for path in _csv_files(desk))
    assert not [signal_id for signal_id in ids if signal_id in text]
    assert desk.run("audit", "verify", "acme").code == 0


def _csv_files(desk: Firm) -> list[Path]:
    return sorted((desk.home.client_state("acme", "mock") / "quantconnect").rglob("*.csv"))


def _csv_lines(desk: Firm) -> int:
    return sum(len(path.read_text().splitlines()) for path in _csv_files(desk))


def test_resume_says_when_a_breaker_closes_that_no_person_can_close(firm: Firm) -> None:
    firm.write("clients/acme/client.toml", CLIENT + "\n[risk]\nmax_daily_loss = 0.01\n")
    firm.run("start", "acme")
    until(lambda: firm.status(WORKER)[WORKER]["trading_state"] == "reducing", "a loss")
    firm.run("halt", "acme", "--reason", "a test")
    told = firm.run("resume", "acme", "--reason", "a test").err
    assert "still stopped: acme: breaker daily_loss" in told
    assert "closes by itself when the next trading day begins" in told
    assert "strategy-runner resume" not in told

"""halt, flatten and stop act on whatever runs, through the real daemon: whatever became of files, folders and other runs."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from end_to_end.harness import CROSSOVER, Firm, assert_one_message, until
from end_to_end.recordings import write_market

from strategy_runner.router.operator_log import read_actions
from strategy_runner.supervision.conditions import Board

WORKER = "acme:cross.BTC-USD"
PARAMS = "params = { fast = 2, slow = 4 }\n"
BROKEN = """
from strategy_runner.strategies.interface import Inputs, Strategy


class Broken(Strategy):
    inputs = Inputs(bars=True)

    def on_start(self) -> None:
        raise RuntimeError("does not begin")
"""


@pytest.fixture(scope="module")
def desk() -> Iterator[Firm]:
    """Two clients, acme and other; each test leaves both at work and unhalted."""
    with Firm() as firm:
        for client in ("acme", "other"):
            firm.write(f"clients/{client}/client.toml", CROSSOVER)
        write_history(firm)
        firm.edit("configs/local-dev.toml", "[history]\n", '[history]\nfolder = "history"\n')
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
    bell = desk.home.sockets / "acme-doorbell.sock"
    heard_at = bell.stat().st_ino
    ran = desk.run("backtest", "acme", "--history", desk.root / "history")
    assert ran.err.rstrip().endswith("signals acme --mode historical")
    assert bell.stat().st_ino == heard_at
    assert desk.run("sql", "acme", "SELECT mode FROM signals LIMIT 1", "-o", "json").objects() == [{"mode": "mock"}]

    assert "acme: halted, exits pass, mock run, action" in desk.run("halt", "acme", "--reason", "test").err
    assert (state(desk), asked(desk, "acme")) == ("reducing", ["halt"])
    assert desk.run("risk", "acme", "-o", "json").json()
    assert "flattening, mock run" in desk.run("flatten", "acme", "--reason", "test").err
    assert "are those of the OMS" in desk.run("reconcile", "acme").err

    # and once it is stopped it is the run that the next start goes on with
    desk.run("stop", "acme")
    assert desk.run("reconcile", "acme", "-o", "json").json() is None  # the next start compares
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
    firm.write("clients/acme/client.toml", CROSSOVER)
    write_history(firm)
    firm.run("backtest", "acme", "--history", firm.root / "history")
    assert_one_message(firm.run("halt", "acme", "--reason", "test", code=None), 2, "expected a client that runs")
    assert not firm.home.client_state("acme", "historical").joinpath("operator.log").exists()


def test_a_client_whose_folder_was_moved_away_is_halted_flattened_and_stopped_as_any_other(desk: Firm) -> None:
    before = desk.pids()
    (desk.home.clients / "acme").rename(desk.root / "elsewhere")
    try:
        ran = desk.run("status")
        assert "acme:router" in ran.out and "clients/acme/client.toml: expected a readable file" in ran.err
        ran = desk.run("halt", "all", "--reason", "test")
        assert "acme: halted" in ran.err and "other: halted" in ran.err
        assert state(desk) == "reducing"
        assert "acme: flattening" in desk.run("flatten", "acme", "--reason", "test").err
        assert "are those of the OMS" in desk.run("reconcile", "acme").err
        desk.run("restart", WORKER)
        desk.run("resume", "all", "--reason", "test")

        assert WORKER in desk.run("stop", "acme").err
        assert {name: pid for name, pid in before.items() if "acme" not in name} == desk.pids()
        assert_one_message(desk.run("start", "acme", code=None), 2, "acme: expected a client of")
        desk.run("start", "all")
        assert "acme:router" not in desk.pids()
    finally:
        (desk.root / "elsewhere").rename(desk.home.clients / "acme")
        desk.run("start", "all")


def test_what_a_client_holds_is_shown_also_when_its_folder_is_gone(desk: Firm) -> None:
    until(lambda: desk.run("fills", "acme", "-o", "name").lines, "fills")
    desk.run("stop", "acme")
    questions = ("positions", "orders", "fills", "report")
    before = {verb: _told_of_acme(desk, verb) for verb in questions}
    assert all(before.values())
    elsewhere = desk.root / "elsewhere"
    (desk.home.clients / "acme").rename(elsewhere)
    try:
        assert {verb: _told_of_acme(desk, verb) for verb in questions} == before
        ran = desk.run("accounts", "all", "-o", "json")
        acme, other = ran.json()
        assert (acme["client"], acme["account"], acme["cash"], acme["value"]) == ("acme", "main", {}, None)
        assert "what it began with is not known: clients/acme/client.toml: expected a readable file" in acme["problem"]
        assert other["client"] == "other" and other["value"]["equity"]
        ran = desk.run("accounts", "acme")
        assert ran.lines[1].split() == ["acme", "main", "-", "-", "-", "-", "-", "-"]
        assert "clients/acme/client.toml: expected a readable file" in ran.err
    finally:
        elsewhere.rename(desk.home.clients / "acme")
    desk.write("clients/acme/client.toml", "nonsense")
    try:
        ran = desk.run("accounts", "all", code=6)
        assert ran.lines[1].startswith("other") and "error: clients/acme/client.toml: " in ran.err
        assert_one_message(desk.run("accounts", "acme", code=None), 6, "clients/acme/client.toml: ")
    finally:
        desk.write("clients/acme/client.toml", CROSSOVER)
        desk.run("start", "acme")


def _told_of_acme(desk: Firm, verb: str) -> list[Any]:
    """What does not rest on prices, which move on."""
    rows = desk.run(verb, "all", "-o", "json").json()
    moving = ("last_price", "unrealised", "profit", "open")
    own = [row for row in rows if "acme" in (row.get("client"), row.get("name"))]
    return [{key: value for key, value in row.items() if key not in moving} for row in own]


def test_orders_and_fills_of_all_clients_stand_in_the_order_of_their_times(desk: Firm) -> None:
    for verb, time in (("orders", "at_ns"), ("fills", "event_ns")):
        for client in ("acme", "other"):
            until(lambda verb=verb, client=client: len(desk.run(verb, client, "-o", "name").lines) > 2, verb)  # type: ignore[misc]
        times = [row[time] for row in desk.run(verb, "all", "-o", "json").json()]
        assert times == sorted(times)


def test_a_broken_environment_is_told_of_once_and_not_by_each_client(desk: Firm) -> None:
    environment = desk.root / "configs" / "local-dev.toml"
    text = environment.read_text()
    environment.write_text("")
    try:
        assert desk.run("status").err.count("warning: configs/local-dev.toml: environment: expected one of") == 1
    finally:
        environment.write_text(text)


def test_apply_stops_a_client_whose_folder_was_removed_and_no_daemon_starts_it_again(desk: Firm) -> None:
    elsewhere = desk.root / "elsewhere"
    (desk.home.clients / "acme").rename(elsewhere)
    assert desk.run("apply").err.startswith("stopped 3: acme:cross.BTC-USD, acme:cross.ETH-USD, acme:router")
    elsewhere.rename(desk.home.clients / "acme")
    assert desk.run("apply").err == "nothing to change\n", "nobody has asked for it since"

    desk.run("start", "acme")
    (desk.home.clients / "acme").rename(elsewhere)
    desk.run("down")
    ran = desk.run("up")
    assert "clients/acme: its folder was removed; it is not started" in ran.err
    assert "should run: other\n" in ran.err and not any("acme" in name for name in desk.pids())
    elsewhere.rename(desk.home.clients / "acme")
    desk.run("start", "all")


def test_without_any_clients_folder_what_runs_can_still_be_stopped(desk: Firm) -> None:
    desk.home.clients.rename(desk.root / "elsewhere")
    try:
        assert "acme: halted" in desk.run("halt", "acme", "--reason", "test").err
        desk.run("resume", "acme", "--reason", "test")
        ran = desk.run("apply", code=6)
        assert "nothing to change" in ran.err
        assert desk.run("stop", "all").err.startswith("stopped ")
        assert desk.pids() == {}
    finally:
        (desk.root / "elsewhere").rename(desk.home.clients)
        desk.run("start", "all")


@pytest.mark.parametrize(
    ("file", "word"),
    [
        (
            f'{CROSSOVER}\n[oms]\nkind = "grpc"\naddress = "10.0.0.1:5555"\n',
            "expected an OMS on this host, since mode is mock",
        ),
        # which it may by itself, and not beside others in a mock market
        (f'mode = "simulation"\n{CROSSOVER}', "one feed serves all clients"),
        (f'colour = "red"\n{CROSSOVER}', "clients/acme/client.toml: colour"),
    ],
    ids=["refused", "simulation", "unknown"],
)
def test_what_one_clients_file_asks_for_in_vain_takes_nothing_from_the_others(desk: Firm, file: str, word: str) -> None:
    before = desk.pids()
    path = desk.write("clients/acme/client.toml", file)
    rows = desk.run("status")
    assert WORKER in rows.out and "other:router" in rows.out
    assert "other:cross.BTC-USD  keep" in desk.run("plan", "other").out
    assert word in desk.run("plan", "all", code=6).err
    ran = desk.run("apply", code=6)
    assert ran.err.startswith("nothing to change\nclients with broken files run on as before\n") and word in ran.err
    assert desk.pids() == before
    desk.run("down")
    ran = desk.run("up")
    assert word in ran.err and "; runs as before" in ran.err
    assert desk.pids().keys() == before.keys()
    path.write_text(CROSSOVER)
    assert desk.run("apply").err == "nothing to change\n"


def test_a_wish_for_symbols_that_the_file_has_lost_is_that_clients_problem(desk: Firm) -> None:
    desk.run("stop", "acme")
    desk.run("start", "acme", "--symbols", "BTC-USD")
    before = desk.pids()
    desk.edit("clients/acme/client.toml", '["BTC-USD", "ETH-USD"]', '["ETH-USD"]')
    for words in (("status",), ("plan", "other"), ("start", "other")):
        desk.run(*words)
    assert "acme: --symbols: expected some of ETH-USD, found BTC-USD" in desk.run("apply", code=6).err
    assert desk.pids() == before
    assert "acme: halted" in desk.run("halt", "acme", "--reason", "test").err
    assert WORKER in desk.run("stop", "acme").err
    desk.run("resume", "acme", "--reason", "test")
    desk.write("clients/acme/client.toml", CROSSOVER)
    desk.run("start", "acme")


def test_a_client_that_is_asked_for_and_broken_and_was_never_told_to_run_stops_no_other(desk: Firm) -> None:
    desk.run("down")
    shutil.rmtree(desk.home.daemon / "specs")
    desk.write("clients/acme/client.toml", "nonsense")
    ran = desk.run("up")
    assert "clients/acme/client.toml" in ran.err
    assert desk.pids().keys() == {name for name in desk.pids() if "acme" not in name} != set()
    desk.run("stop", "other:cross:ETH-USD")
    desk.run("start", "other")
    assert "other:cross.ETH-USD" in desk.pids()
    desk.run("stop", "acme")
    desk.write("clients/acme/client.toml", CROSSOVER)
    desk.run("start", "acme")


def test_a_client_that_cannot_be_halted_keeps_no_other_from_it(desk: Firm) -> None:
    log = desk.home.client_state("acme", "mock") / "operator.log"
    whole = log.read_bytes()
    log.write_bytes(whole[:8] + bytes([whole[8] ^ 1]) + whole[9:])
    try:
        for verb in (("halt",), ("flatten", "--halt")):
            ran = desk.run(*verb, "all", "--reason", "test", code=1)
            assert "other: halted, exits pass, mock run" in ran.err
            assert "error: acme: not recorded, so nothing has changed: " in ran.err
            assert "`strategy-runner stop acme` ends its trading" in ran.err
        assert state(desk, "other:cross.BTC-USD") == "reducing"
        assert "acme: what stops it is not known" in desk.run("status").err
    finally:
        log.write_bytes(whole)
    desk.run("resume", "other", "--reason", "test")


def test_a_client_without_orders_keeps_no_other_from_being_flattened(desk: Firm) -> None:
    desk.write("clients/csv/client.toml", CROSSOVER.replace('"oms"', '"quantconnect"'))
    desk.run("start", "csv")
    ran = desk.run("flatten", "all", "--reason", "test")
    assert "csv: its orders go to no OMS, so there is nothing to exit" in ran.err
    assert "acme: flattening" in ran.err and "other: flattening" in ran.err and "csv: flattening" not in ran.err
    assert_one_message(desk.run("flatten", "csv", "--reason", "test", code=None), 2, "go to none")
    desk.run("stop", "csv")
    shutil.rmtree(desk.root / "clients/csv")


def test_a_stop_that_cannot_be_written_down_stops_all_the_same_and_says_so(desk: Firm) -> None:
    before = desk.pids()
    template = desk.home.templates / "group.conf"
    text = template.read_text()
    template.unlink()
    ran = desk.run("stop", "acme", code=1)
    assert WORKER in ran.err and "stopped, and not for good" in ran.err and "expected a template" in ran.err
    assert desk.pids() == {name: pid for name, pid in before.items() if "acme" not in name}
    template.write_text(text)
    desk.run("stop", "acme")
    assert "acme:router" not in desk.states()
    desk.run("start", "acme")

    full = desk.home.daemon / ".wishes.json.new"  # where a full disk shows itself first
    full.mkdir()
    assert "other:cross.BTC-USD: stopped, and not" in desk.run("stop", "other:cross:BTC-USD", code=1).err
    assert before.keys() - desk.pids().keys() == {"other:cross.BTC-USD"}
    row = desk.status("other:cross:BTC-USD")["other:cross.BTC-USD"]
    assert (row["trading_state"], row["reason"]) == ("stopped", "stopped by an operator")
    full.rmdir()
    desk.run("start", "acme")
    assert "other:cross.BTC-USD" not in desk.pids(), "what a person stopped, no machine starts"
    assert "restarted 1: other:cross.BTC-USD" in desk.run("start", "other").err
    desk.run("stop", "other:cross:BTC-USD")
    desk.run("start", "other")
    assert desk.pids().keys() == before.keys()


def test_one_that_is_about_to_be_tried_again_is_stopped_by_a_stop_that_cannot_be_written_down(firm: Firm) -> None:
    firm.write("clients/acme/client.toml", CROSSOVER.replace("moving_average_crossover", "broken").replace(PARAMS, ""))
    firm.write("clients/acme/strategies/broken.py", BROKEN)
    firm.edit("supervisor/program.conf", "startretries = $startretries", "startretries = 1000")
    firm.run("start", "acme", "--no-wait")
    until(lambda: firm.states()[WORKER] == "BACKOFF", "a start that failed")
    (firm.home.templates / "group.conf").unlink()
    assert f"{WORKER}: stopped, and not for good" in firm.run("stop", WORKER, code=1).err
    assert firm.states()[WORKER] == "STOPPED"
    assert firm.pids()["acme:router"]


def test_of_what_was_stopped_nobody_says_what_the_watchdog_saw_last(firm: Firm) -> None:
    firm.write("clients/acme/client.toml", CROSSOVER)
    firm.run("start", "acme")
    firm.run("stop", "acme")
    board = Board(firm.home.monitor)
    board.show(WORKER, "restarts", "began anew 3 times within a minute")
    board.write()
    assert firm.is_up()
    assert firm.status(WORKER)[WORKER]["reason"] == "stopped by an operator"
    assert "began anew" not in firm.run("doctor", code=None).out


def test_a_damaged_trail_keeps_nobody_from_being_stopped(desk: Firm) -> None:
    log = desk.home.client_state("acme", "mock") / "operator.log"
    whole = log.read_bytes()
    log.write_bytes(whole[:8] + bytes([whole[8] ^ 1]) + whole[9:])
    try:
        ran = desk.run("stop", "acme", code=1)
        assert f"error: done, and not in the audit trail: {log}" in ran.err
        assert not any("acme" in name for name in desk.states())
        assert "already stopped" in desk.run("stop", "acme").err
    finally:
        log.write_bytes(whole)
    desk.run("start", "acme")

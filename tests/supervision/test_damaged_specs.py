"""A damaged specification, such as a power cut may leave, is the trouble of its process, and no command's."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from end_to_end.harness import CROSSOVER, Firm, assert_one_message, until

from strategy_runner.config.spec import read_spec

SHARED = {"market:feed", "monitor:watchdog", "oms:paper"}
ACME = {"acme:router", "acme:cross.BTC-USD", "acme:cross.ETH-USD"}
WORKER = "acme:cross.BTC-USD"
DAMAGED = (WORKER, "acme:router", *sorted(SHARED))


@pytest.fixture
def running() -> Iterator[Firm]:
    with Firm() as firm:
        for client in ("acme", "other"):
            firm.write(f"clients/{client}/client.toml", CROSSOVER)
        firm.run("start", "all")
        yield firm


def damage(firm: Firm, name: str) -> Path:
    """Its specification empty, as a file that was not on the disk yet."""
    group, _, rest = name.partition(":")
    path = firm.home.daemon / "specs" / group / f"{rest}.json"
    path.write_bytes(b"")
    return path


def rot(path: Path) -> None:
    """One bit of the first text in it, which is no UTF-8 any more."""
    raw = bytearray(path.read_bytes())
    found = re.search(rb': ?"', raw)
    assert found is not None
    raw[found.end()] |= 0x80
    path.write_bytes(raw)


def test_damaged_specifications_are_told_of_and_written_anew_while_their_processes_run_on(running: Firm) -> None:
    before = running.pids()
    ours = {name: pid for name, pid in before.items() if name in ACME | SHARED}
    paths = [damage(running, name) for name in DAMAGED]
    said = running.run("status", "-o", "json")
    assert {row["name"] for row in said.json()} == before.keys()
    assert all(f"warning: {path}: expected a process specification" in said.err for path in paths)
    assert "warning" not in running.run("status", "other").err
    for name in sorted(SHARED):
        rows = running.run("status", name, "-o", "json").json()
        assert [row["name"] for row in rows] == [name]
        assert rows[0]["process_state"] in ("STARTING", "RUNNING")
        assert running.run("logs", name).code == 0

    running.run("stop", "other")  # of all the others none is touched
    assert running.pids() == ours
    assert all(read_spec(path) for path in paths)
    for name in DAMAGED:
        damage(running, name)
    running.run("start", "other")
    assert {name: running.pids()[name] for name in ours} == ours
    assert all(read_spec(path) for path in paths)


def test_a_worker_whose_specification_is_damaged_can_be_stopped(running: Firm) -> None:
    before = running.pids()
    path = damage(running, WORKER)
    assert running.run("stop", WORKER).err == f"stopped 1: {WORKER}\n"
    assert running.pids() == {each: pid for each, pid in before.items() if each != WORKER}
    assert not path.exists()


def test_damaged_files_of_a_home_that_was_down_hold_up_nobody(running: Firm) -> None:
    before = running.pids().keys()
    running.run("down")
    for name in (WORKER, "market:feed"):
        damage(running, name)
    latest = running.home.var / "clients" / "acme" / "latest.json"
    latest.write_bytes(b"")
    assert f"warning: {latest}: expected a client's latest run" in running.run("status").err
    running.run("up")
    until(lambda: running.pids().keys() == before, "all processes")


def test_a_single_wrong_bit_is_damage_as_any_other(running: Firm) -> None:
    before = running.pids()
    specs = running.home.daemon / "specs" / "acme"
    rot(specs / "cross.BTC-USD.json")
    os.utime(specs)  # the watchdog looks again
    latest = running.home.var / "clients" / "acme" / "latest.json"
    rot(latest)
    said = running.run("status").err
    assert f"warning: {specs / 'cross.BTC-USD.json'}: expected a process specification, found: " in said
    assert f"warning: {latest}: expected a client's latest run, found: " in said
    log = running.home.log("monitor:watchdog")
    until(lambda: "watched as it was told before" in log.read_text(), "a word of the watchdog")
    assert running.pids() == before

    wishes = running.home.daemon / "wishes.json"
    rot(wishes)
    assert_one_message(running.run("stop", "acme", code=None), 1, f"{wishes}: expected what operators asked for")


def test_a_copy_of_a_home_writes_nowhere_in_the_home_it_was_copied_from(running: Firm) -> None:
    running.run("down")
    elsewhere = f"{running.root}-other"
    for path in (running.home.daemon / "specs").glob("*/*.json"):  # as they lie in a copy
        path.write_text(path.read_text().replace(f"{running.root}/", f"{elsewhere}/"))
    said = running.run("status").err
    assert (
        said.count("warning: ")
        == said.count(f"expected specifications of this home, found those of {elsewhere}, ")
        == 1
    )
    running.run("start", "acme")  # of two clients that ran
    written = [path.read_text() for path in (running.home.daemon / "specs").glob("*/*.json")]
    assert len(written) == len(running.pids()) and not any(elsewhere in text for text in written)
    assert not Path(elsewhere).exists()
    assert "of this home" not in running.run("status").err


def test_no_restart_ends_a_process_that_could_not_begin_again(running: Firm) -> None:
    before = running.pids()
    path = damage(running, "market:feed")
    said = running.run("restart", "market:feed", "acme", code=6).err
    assert f"error: {path}: expected a process specification, found: " in said
    assert "it runs on as it was told before, and `strategy-runner apply` writes it anew" in said
    assert running.pids() == before
    running.run("apply")
    assert read_spec(path) and running.pids() == before
    running.run("restart", "market:feed")
    running.await_new_pid("market:feed", before["market:feed"])


def test_a_feed_whose_specification_is_damaged_runs_on_until_apply_gives_it_what_was_edited(running: Firm) -> None:
    before = running.pids()
    path = damage(running, "market:feed")
    running.edit("configs/local-dev.toml", "\nseed = 7 ", "\nseed = 8 ")
    said = running.run("start", "other", code=6).err
    assert "which is not what the files say now: `strategy-runner apply` writes it anew" in said
    running.run("stop", "other:cross:BTC-USD")
    assert running.pids() == {name: pid for name, pid in before.items() if name != "other:cross.BTC-USD"}
    assert path.read_bytes() == b""
    running.run("apply")
    assert read_spec(path)
    assert {n for n, pid in running.pids().items() if n != "monitor:watchdog" and pid != before[n]} == {"market:feed"}


def test_a_worker_runs_on_where_neither_its_specification_nor_its_clients_files_can_be_read(running: Firm) -> None:
    before = running.pids()
    paths = [damage(running, name) for name in (WORKER, "acme:router")]
    running.edit("clients/acme/client.toml", "slow = 4", "slow = = 4")
    plan = running.run("plan", "-o", "json", code=6).json()
    assert not {change["name"] for change in plan if change["action"] == "stop"}
    running.run("stop", "other:cross:BTC-USD")
    running.run("start", "other")
    running.run("apply", code=6)
    now = running.pids()
    assert {name: now[name] for name in before if not name.startswith("other:cross.BTC")} == {
        name: pid for name, pid in before.items() if not name.startswith("other:cross.BTC")
    }
    running.edit("clients/acme/client.toml", "slow = = 4", "slow = 5")
    running.run("apply")
    assert all(read_spec(path) for path in paths)
    assert {name for name, pid in running.pids().items() if pid != now[name]} == {WORKER, "acme:cross.ETH-USD"}

    damage(running, WORKER)
    running.edit("clients/acme/client.toml", "slow = 5", "slow = = 5")
    running.run("stop", "acme")
    assert not any(name.startswith("acme:") for name in running.pids())

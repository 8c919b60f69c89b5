"""Changes to a running fleet: what differs is started, stopped or restarted, and every other process keeps its pid."""

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from fleet_home import FleetHome, await_end, until
from worker.processes import is_alive

from strategy_runner.errors import ConfigurationError, TimeoutExpiredError, UsageError
from strategy_runner.supervision.loop import ENDING_MANY, SPAWNS_PER_TURN_MAX
from strategy_runner.supervision.programs import Program
from strategy_runner.supervision.reports import ChangeReport
from strategy_runner.supervision.warm_fork import PATIENCE_S

NOTHING = ChangeReport((), (), ())


def test_adding_a_program_starts_one_process_and_leaves_the_others(fleet: FleetHome) -> None:
    two = [fleet.program("a"), fleet.program("b")]
    fleet.start(*two)
    before = fleet.await_started("a", "b")
    fleet.write(*two, fleet.program("c"))
    assert fleet.daemon.reconcile() == ChangeReport(("ikenna:c",), (), ())
    assert fleet.pids() == {**before, **fleet.await_started("c")}


def test_a_changed_digest_restarts_that_program_alone(fleet: FleetHome) -> None:
    fleet.start(fleet.program("a"), fleet.program("b"))
    before = fleet.await_started("a", "b")
    fleet.write(fleet.program("a", digest="2"), fleet.program("b"))
    assert fleet.daemon.reconcile() == ChangeReport((), (), ("ikenna:a",))
    after = fleet.await_started("a")
    assert after["a"] != before["a"]
    assert fleet.pids() == {"a": after["a"], "b": before["b"]}
    assert not is_alive(before["a"])


def test_removing_a_program_stops_it_alone_and_an_empty_group_goes(fleet: FleetHome) -> None:
    stays, goes, last = fleet.program("a"), fleet.program("b"), fleet.program("c", group="odum")
    fleet.start(stays, goes, last)
    before = fleet.await_started("a", "b", "c")
    fleet.write(stays)
    assert fleet.daemon.reconcile() == ChangeReport((), ("ikenna:b", "odum:c"), ())
    assert fleet.pids() == {"a": before["a"]}
    assert not is_alive(before["b"]) and not is_alive(before["c"])
    fleet.write(stays, last)
    assert fleet.daemon.reconcile() == ChangeReport(("odum:c",), (), ())
    assert fleet.pids()["a"] == before["a"]


def test_an_unchanged_configuration_changes_nothing(fleet: FleetHome) -> None:
    programs = [fleet.program("a"), fleet.program("b", group="odum")]
    fleet.start(*programs)
    before = fleet.await_started("a", "b")
    fleet.write(*programs)
    assert fleet.daemon.reconcile() == NOTHING
    assert fleet.pids() == before


def test_a_fatal_program_starts_again_when_its_spec_changes_and_only_then(fleet: FleetHome) -> None:
    fleet.start(fleet.program("a", "crash", startsecs=1, startretries=0))
    fleet.await_state("a", "FATAL")
    assert fleet.daemon.reconcile() == NOTHING
    assert fleet.await_state("a", "FATAL").pid == 0
    fleet.write(fleet.program("a", "serve", digest="2"))
    assert fleet.daemon.reconcile().restarted == ("ikenna:a",)
    assert fleet.await_state("a", "RUNNING").pid


def test_restart_gives_the_named_programs_new_processes(fleet: FleetHome) -> None:
    fleet.start(fleet.program("a"), fleet.program("b"))
    before = fleet.await_started("a", "b")
    assert fleet.daemon.restart(["ikenna:a"]) == ChangeReport((), (), ("ikenna:a",))
    after = fleet.pids()
    assert after["a"] not in (0, before["a"])
    assert after["b"] == before["b"]


def test_restart_of_an_unknown_name_is_refused_and_restarts_nothing(fleet: FleetHome) -> None:
    fleet.start(fleet.program("a"))
    before = fleet.await_started("a")
    with pytest.raises(UsageError, match="expected a program that the daemon runs, found ikenna:nobody"):
        fleet.daemon.restart(["ikenna:a", "ikenna:nobody"])
    assert fleet.pids() == before


def test_a_changed_router_and_its_workers_stop_workers_first_and_start_the_router_first(fleet: FleetHome) -> None:
    def programs(digest: str) -> list[Program]:
        return [
            fleet.program("router", kind="router", digest=digest),
            fleet.program("w1", digest=digest),
            fleet.program("w2", digest=digest),
        ]

    fleet.start(*programs("1"))
    fleet.await_started("router", "w1", "w2")
    fleet.write(*programs("2"))
    assert fleet.daemon.reconcile().restarted == ("ikenna:router", "ikenna:w1", "ikenna:w2")
    fleet.await_started("router", "w1", "w2")
    stopped = [name for word, name, _ in fleet.heard if word == "stopped"]
    assert set(stopped[:2]) == {"w1", "w2"} and stopped[2] == "router"
    spawned = [line.split("'")[1] for line in _supervisord_log(fleet) if "spawned:" in line]
    assert spawned[3] == "router"


def test_a_feed_that_goes_for_good_stops_with_the_workers_and_one_that_is_replaced_after_them(fleet: FleetHome) -> None:
    def programs(digest: str) -> list[Program]:
        return [
            fleet.program("feed", group="market", kind="feed", digest=digest),
            fleet.program("router", kind="router", digest=digest),
            fleet.program("w1", digest=digest),
        ]

    fleet.start(*programs("1"))
    fleet.await_started("feed", "router", "w1")
    fleet.write(*programs("2"))
    fleet.daemon.reconcile()
    fleet.await_started("feed", "router", "w1")
    assert [name for word, name, _ in fleet.heard if word == "stopped"] == ["w1", "router", "feed"]
    fleet.write(fleet.program("a", group="odum"))
    assert fleet.daemon.reconcile().stopped == ("ikenna:router", "ikenna:w1", "market:feed")
    fleet.await_word("stopped", ("feed", "router", "w1"))
    stopped = [name for word, name, _ in fleet.heard if word == "stopped"][3:]
    assert set(stopped[:2]) == {"feed", "w1"} and stopped[2] == "router"


def test_where_many_end_at_once_each_has_longer_before_it_is_killed(fleet: FleetHome) -> None:
    names = [f"w{number}" for number in range(ENDING_MANY)]
    many = [fleet.program(name) for name in names]
    fleet.start(fleet.program("a"), fleet.program("deaf", "stubborn", stopwaitsecs=1), *many)
    before = fleet.await_started("a", "deaf", *names)
    fleet.write(fleet.program("a"))
    done: list[ChangeReport] = []
    change = threading.Thread(target=lambda: done.append(fleet.daemon.reconcile()))
    begun_s = time.monotonic()
    change.start()
    fleet.await_word("stopped", names)
    change.join()
    assert time.monotonic() - begun_s >= 1.0 + PATIENCE_S * len(names)
    assert len(done[0].stopped) == len(names) + 1
    assert fleet.pids() == {"a": before["a"]}
    assert not is_alive(before["deaf"])


def test_a_program_that_will_not_stop_is_killed_and_the_daemon_answers_meanwhile(fleet: FleetHome) -> None:
    fleet.start(fleet.program("deaf", "stubborn", stopwaitsecs=1), fleet.program("a"))
    before = fleet.await_started("deaf", "a")
    fleet.write(fleet.program("a"))
    done: list[ChangeReport] = []
    change = threading.Thread(target=lambda: done.append(fleet.daemon.reconcile()))
    change.start()
    fleet.await_state("deaf", "STOPPING")
    os.kill(before["a"], signal.SIGKILL)
    assert fleet.await_started("a")["a"] != before["a"], "restarts go on while a change is under way"
    assert is_alive(before["deaf"])
    change.join()
    assert done == [ChangeReport((), ("ikenna:deaf",), ())]
    assert not is_alive(before["deaf"])


def test_a_change_completes_when_whoever_asked_for_it_has_gone(fleet: FleetHome) -> None:
    fleet.start(fleet.program("deaf", "stubborn", stopwaitsecs=1))
    before = fleet.await_started("deaf")
    fleet.write(fleet.program("deaf", digest="2"))
    with pytest.raises(TimeoutExpiredError):
        fleet.daemon.reconcile(timeout_s=0.05)
    assert fleet.await_started("deaf")["deaf"] != before["deaf"]


def test_changes_asked_for_at_once_are_made_one_after_the_other(fleet: FleetHome) -> None:
    fleet.start(fleet.program("deaf", "stubborn", stopwaitsecs=1), fleet.program("a"))
    before = fleet.await_started("deaf", "a")
    fleet.write(fleet.program("a"))
    first = threading.Thread(target=fleet.daemon.reconcile)
    first.start()
    fleet.await_state("deaf", "STOPPING")
    fleet.write(fleet.program("a"), fleet.program("deaf"))
    assert fleet.daemon.reconcile() == ChangeReport(("ikenna:deaf",), (), ())
    first.join()
    after = fleet.await_started("deaf")
    assert fleet.pids() == {"a": before["a"], **after}
    assert not is_alive(before["deaf"])


def test_a_configuration_that_cannot_be_read_changes_nothing_and_says_why(fleet: FleetHome) -> None:
    fleet.start(fleet.program("a"))
    before = fleet.await_started("a")
    path = fleet.write(fleet.program("a"), fleet.program("b"))
    path.write_text(path.read_text().replace("stopsignal = TERM", "stopsignal = NEVER"))
    with pytest.raises(ConfigurationError, match="NEVER"):
        fleet.daemon.reconcile()
    assert fleet.pids() == before
    fleet.write(fleet.program("a"), fleet.program("b"))
    assert fleet.daemon.reconcile().started == ("ikenna:b",)


def test_a_program_killed_while_it_waits_for_its_tier_is_changed_all_the_same(fleet: FleetHome) -> None:
    fleet.start(fleet.program("router", kind="router"), fleet.program("deaf", "stubborn", stopwaitsecs=1))
    before = fleet.await_started("router", "deaf")
    fleet.write(fleet.program("router", kind="router", digest="2"))
    change = threading.Thread(target=fleet.daemon.reconcile)
    change.start()
    fleet.await_state("deaf", "STOPPING")
    os.kill(before["router"], signal.SIGKILL)
    await_end(before["router"])
    change.join()
    router = until(lambda: fleet.pids().get("router"))
    until(lambda: Path(f"/proc/{router}/comm").read_text() == "router\n")  # a warm child is called after its program
    assert fleet.pids() == {"router": router}


def test_those_that_had_no_turn_to_start_before_they_were_to_stop_are_left_running_by_nobody(fleet: FleetHome) -> None:
    def client(digest: str) -> list[Program]:
        workers = [fleet.program(f"w{number}", "mute", digest=digest) for number in range(6 * SPAWNS_PER_TURN_MAX)]
        return [fleet.program("router", "mute", kind="router", digest=digest), *workers]

    other = fleet.program("a", "mute", group="odum")
    daemon = fleet.start(other, *client("1"))
    fleet.write(other, *client("2"))
    assert len(fleet.daemon.reconcile().restarted) == len(client("2"))
    until(lambda: _children(daemon) == fleet.pids())
    fleet.write(other, *client("3"))
    with pytest.raises(TimeoutExpiredError):
        fleet.daemon.reconcile(timeout_s=0.01)  # those that it is to begin have had no turn when they are to stop
    fleet.write(other)
    assert len(fleet.daemon.reconcile().stopped) == len(client("2"))
    assert fleet.pids().keys() == {"a"}
    until(lambda: _children(daemon) == fleet.pids())


def _children(daemon: int) -> dict[str, int]:
    """What the daemon has started and still runs, whether it knows of it or not. Its zygote is none of them."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            _, _, told = (folder / "stat").read_text().rpartition(")")
            state, parent = told.split()[:2]
            name = (folder / "comm").read_text().strip()
            if int(parent) == daemon and state not in "ZX" and not name.startswith("python"):
                found[name] = int(folder.name)
    return found


def _supervisord_log(fleet: FleetHome) -> list[str]:
    return (fleet.home.daemon / "supervisord.log").read_text().splitlines()


def test_a_stop_that_no_file_tells_of_reaches_those_that_had_no_turn_to_start_and_holds(fleet: FleetHome) -> None:
    first, second = fleet.program("first"), fleet.program("second")
    fleet.start(first, second)
    kept = fleet.await_started("first", "second")["first"]
    late = [f"late{number}" for number in range(2 * SPAWNS_PER_TURN_MAX)]
    fleet.write(first, second, *(fleet.program(name) for name in late))
    with suppress(TimeoutExpiredError):  # it is asked for, and not waited for
        fleet.daemon.reconcile(timeout_s=0.001)
    names = [f"ikenna:{name}" for name in ("second", *late)]
    assert fleet.daemon.stop(names) == ChangeReport((), tuple(sorted(names)), ())
    assert fleet.daemon.reconcile() == NOTHING
    assert {one.name: one.pid for one in fleet.daemon.processes() if one.pid} == {"first": kept}
    assert {one.state for one in fleet.daemon.processes() if not one.pid} == {"STOPPED"}
    assert all(one.was_stopped for one in fleet.daemon.processes() if not one.pid)
    with pytest.raises(UsageError, match="ikenna:nobody"):
        fleet.daemon.stop(["ikenna:first", "ikenna:nobody"])
    fleet.daemon.restart(names)
    assert all(fleet.pids().values())

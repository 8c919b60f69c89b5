"""The unit on a machine that boots: installed as the runbook says, confined, killed, and its power cut. Minutes long."""

import json
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from end_to_end import harness
from end_to_end.guest import Guest, checkout_with_wheels, objects_in, what_is_missing

REPOSITORY = Path(__file__).parents[2]
MISSING = what_is_missing()
RUN = "runuser -u strategy-runner -- /opt/strategy-runner/bin/strategy-runner"
GROUP = "/sys/fs/cgroup/system.slice/strategy-runner.service"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1_800),
    pytest.mark.skipif(bool(MISSING), reason=f"no virtual machine: {MISSING}"),
]

until = partial(harness.until, patience_s=240.0)


@pytest.fixture(scope="module")
def guest() -> Iterator[Guest]:
    with tempfile.TemporaryDirectory(prefix="sr") as name:
        folder = Path(name)
        guest = Guest(folder, checkout_with_wheels(REPOSITORY, folder))
        try:
            guest.boot()
            install(guest)
            yield guest
        finally:
            guest.cut()


def install(guest: Guest) -> None:
    """By the lines of the runbook, with a market so slow that an emulated machine follows."""
    guest.run("cd /root/checkout; export PIP_NO_INDEX=1 PIP_FIND_LINKS=/root/checkout/wheels")
    runbook = (REPOSITORY / "docs" / "runbook.md").read_text()
    _, _, section = runbook.partition("## Installing under systemd\n")
    block = section.partition("```bash\n")[2].partition("```")[0]
    lines = block.strip().splitlines()
    assert any("systemctl enable --now" in line for line in lines), "the runbook's block"
    for line in lines:
        if "systemctl enable" in line:
            guest.run("sed -i 's/^speed = .*/speed = 10.0/' $STRATEGY_RUNNER_HOME/configs/local-dev.toml")
        guest.run(line, timeout_s=600.0)
    enter(guest)


def enter(guest: Guest) -> None:
    guest.run("cd /; export STRATEGY_RUNNER_HOME=/var/lib/strategy-runner")


def rows(guest: Guest) -> dict[str, dict[str, object]]:
    """Of `status`, by name."""
    said = guest.run(f"{RUN} status -o json", code=None)
    return {row["name"]: row for row in json.loads(said)} if said.lstrip().startswith("[") else {}


def are_all_at_work(guest: Guest) -> bool:
    found = rows(guest)
    return len(found) > 10 and all(row["pid"] and row["process_state"] == "RUNNING" for row in found.values())


def faults(guest: Guest) -> list[str]:
    """What `doctor` calls an error."""
    said = guest.run(f"{RUN} doctor", code=None)
    assert " error" in said.splitlines()[-1], said
    return [line for line in said.splitlines() if line.startswith("error")]


def main_pid(guest: Guest) -> int:
    return int(guest.run("systemctl show -p MainPID --value strategy-runner"))


def test_each_worker_has_a_group_with_its_limits_and_its_memory_is_shown(guest: Guest) -> None:
    until(lambda: are_all_at_work(guest), "all processes")
    found = rows(guest)
    assert guest.run("systemctl is-active strategy-runner").strip() == "active"
    assert all(isinstance(row["memory_mb"], float) for row in found.values())
    worker = found["odum:crossover_1m.SPY"]
    group = f"{GROUP}/worker-odum.crossover_1m.SPY"
    assert guest.run(f"cat {group}/cgroup.procs").split() == [str(worker["pid"])]
    assert guest.run(f"cd {group}; cat memory.max cpu.max cpu.weight pids.max; cd /").split() == [
        str((256 + 64) << 20),
        "100000",
        "100000",
        "20",
        "64",
    ]
    assert guest.run(f"cat /proc/{worker['pid']}/oom_score_adj /proc/{main_pid(guest)}/oom_score_adj").split() == [
        "0",
        "-500",
    ]
    daemon = guest.run(f"cat {GROUP}/daemon/cgroup.procs").split()
    assert {str(main_pid(guest)), str(found["market:feed"]["pid"]), str(found["odum:router"]["pid"])} <= set(daemon)


def test_one_worker_out_of_memory_is_that_workers_end_alone(guest: Guest) -> None:
    until(lambda: are_all_at_work(guest), "all processes")
    before = rows(guest)
    name = "odum:momentum_fast.SPY"
    guest.run(f"echo 0 > {GROUP}/worker-{name.replace(':', '.')}/memory.max", code=None)
    until(lambda: rows(guest).get(name, {}).get("pid") not in (None, before[name]["pid"]), "a new process")
    until(lambda: are_all_at_work(guest), "all processes")
    after = rows(guest)
    assert {other for other in before if before[other]["pid"] != after[other]["pid"]} == {name}
    assert "Killed process" in guest.run("dmesg | grep -i 'memory cgroup out of memory'")


@pytest.mark.parametrize("signal", ["KILL", "STOP"])
def test_systemd_brings_back_a_daemon_that_was_killed_or_stands_still(guest: Guest, signal: str) -> None:
    until(lambda: are_all_at_work(guest), "all processes")
    before = main_pid(guest)
    guest.run(f"kill -{signal} {before}")
    until(lambda: main_pid(guest) not in (0, before), "another daemon")
    until(lambda: are_all_at_work(guest) and not faults(guest), "all processes, and nothing for `doctor` to say")


def test_a_power_cut_loses_nothing_that_was_seen_and_doubles_nothing(guest: Guest) -> None:
    until(lambda: are_all_at_work(guest), "all processes")
    fills = json.loads(guest.run(f"{RUN} fills all -o json"))
    guest.say(f"{RUN} signals all -f -n 100000 -o json")
    seen = objects_in(guest.hear(60.0))
    guest.cut()
    guest.boot()
    enter(guest)
    until(lambda: are_all_at_work(guest), "all processes")
    signals = objects_in(guest.run(f"{RUN} signals all -o json"))
    by_id = {one["id"]: one for one in signals}
    assert len(seen) > 10
    assert len(by_id) == len(signals)
    assert [by_id.get(one["id"]) for one in seen] == seen
    now = json.loads(guest.run(f"{RUN} fills all -o json"))
    by_fill = {one["fill_id"]: one for one in now}
    assert len(by_fill) == len(now)
    assert [by_fill.get(one["fill_id"]) for one in fills] == fills
    assert faults(guest) == []
    for client in ("christian", "ikenna", "odum"):
        assert "entries whole" in guest.run(f"{RUN} audit verify {client}")


def test_it_stops_and_leaves_nothing(guest: Guest) -> None:
    until(lambda: are_all_at_work(guest), "all processes")
    guest.run("systemctl stop strategy-runner")
    assert guest.run("systemctl show -p Result --value strategy-runner").strip() == "success"
    assert guest.run("pgrep -u strategy-runner", code=1).strip() == ""
    assert not any(row["pid"] for row in rows(guest).values())

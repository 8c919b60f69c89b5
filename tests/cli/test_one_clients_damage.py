"""Damage of one client's files takes the others from nobody: they are shown, and acted on, and the damage is named."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from end_to_end.harness import CROSSOVER, PATIENCE_S, Firm, Ran, told, until

FAILURE, CONFIGURATION = 1, 6
FILLS, ORDERS, DECISIONS = "mock/fills.log", "mock/router/orders.log", "mock/router/decisions.log"
RISK, LATEST, WORKER = "mock/router/risk.note", "latest.json", "mock/workers/cross.BTC-USD/status"


@pytest.fixture(scope="module")
def firm() -> Iterator[Firm]:
    """Two clients that have traded, and a daemon that is down."""
    with Firm() as firm:
        for client in ("acme", "beta"):
            firm.write(f"clients/{client}/client.toml", CROSSOVER)
        firm.run("start", "all")
        for name in ("acme", "beta"):
            # damage of the only frame of a log would pass for a torn one
            until(lambda name=name: len(firm.run("fills", name, "-o", "name").lines) > 2, "fills")
        firm.run("down")
        yield firm


def flipped(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[30] ^= 4
    path.write_bytes(raw)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def garbage(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 16)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:10])


def replaced(content: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(content) and None


DAMAGES: list[tuple[str, Callable[[Path], None], tuple[str, ...]]] = [
    (FILLS, flipped, ("positions", "accounts", "fills", "report")),
    (FILLS, folder, ("positions", "accounts", "fills", "report")),
    (FILLS, pipe, ("positions", "accounts")),
    (FILLS, garbage, ("positions", "accounts", "fills", "report")),
    (ORDERS, flipped, ("orders",)),
    (ORDERS, folder, ("orders",)),
    (ORDERS, garbage, ("orders",)),
    (DECISIONS, flipped, ("report", "signals")),
    (DECISIONS, folder, ("report", "signals")),
    (DECISIONS, garbage, ("report", "signals")),
]
FORMS = ("table", "json")


@pytest.fixture
def damaged(firm: Firm) -> Iterator[Callable[[str, Callable[[Path], None]], Path]]:
    """Damages a file of acme's, until the test is over."""
    undo: list[Callable[[], object]] = []

    def damage(name: str, how: Callable[[Path], None]) -> Path:
        path = firm.root / "var" / "clients" / "acme" / name
        whole = path.read_bytes()
        undo.append(lambda: (path.rmdir() if path.is_dir() else path.unlink(), path.write_bytes(whole)))
        how(path)
        return path

    yield damage
    for step in undo:
        step()


Damage = Callable[[str, Callable[[Path], None]], Path]


@pytest.mark.parametrize(("name", "how", "verbs"), DAMAGES, ids=lambda it: getattr(it, "__name__", None))
def test_what_all_have_is_shown_without_the_one_whose_log_is_damaged(
    firm: Firm, damaged: Damage, name: str, how: Callable[[Path], None], verbs: tuple[str, ...]
) -> None:
    path = damaged(name, how)
    for ran in firm.run_all(*((verb, "all", "-o", form) for verb in verbs for form in FORMS)):
        assert ran.code == FAILURE, told(ran)
        assert "beta" in ran.out and "acme" not in ran.out, told(ran)
        assert ran.err.startswith(f"error: {path}: ") and "expected" in ran.err and "found" in ran.err, told(ran)
        assert len(ran.err.splitlines()) == 1, told(ran)
    for ran in firm.run_all(*((verb, "acme") for verb in verbs)):
        assert (ran.code, ran.out) == (FAILURE, ""), told(ran)
        assert ran.err.startswith(f"error: {path}: "), told(ran)


@pytest.mark.parametrize("how", [folder, pipe, cut_short, replaced("null"), replaced('{"mode": "moc", "wish": {}}')])
def test_a_latest_run_that_cannot_be_read_keeps_nobody_from_seeing_and_halting_the_others(
    firm: Firm, damaged: Damage, how: Callable[[Path], None]
) -> None:
    """What it says names a folder: one flipped bit in it, and a halt was written where nobody reads it."""
    (firm.root / "var/daemon/specs/acme/router.json").rename(firm.root / "acme")
    try:
        path = damaged(LATEST, how)
        for verb in ("positions", "accounts", "orders", "fills", "report", "signals"):
            _must_name(firm.run(verb, "all", code=FAILURE), path)
        status = firm.run("status", "all")
        assert "beta:cross.BTC-USD" in status.out and str(path) in status.err, told(status)
        assert "beta:router" in firm.run("plan").out
        halted = firm.run("halt", "all", "--reason", "test", code=FAILURE)
        assert "beta: recorded as action" in halted.err and "acme: not recorded" in halted.err, told(halted)
        resumed = firm.run("resume", "all", "--reason", "test", code=FAILURE)
        assert "beta: recorded as action" in resumed.err and str(path) in resumed.err, told(resumed)
    finally:
        (firm.root / "acme").rename(firm.root / "var/daemon/specs/acme/router.json")


@pytest.mark.parametrize(
    "name",
    [
        "var/daemon/specs/acme/router.json",
        "var/daemon/specs/acme/cross.BTC-USD.json",
        "var/clients/acme/mock/router/operator.ack",
        "var/clients/acme/mock/router/lock",
        "var/clients/acme/mock/router/risk.note",
        "var/monitor/conditions.json",
    ],
)
def test_a_pipe_in_the_place_of_a_small_file_makes_no_command_wait(firm: Firm, damaged: Damage, name: str) -> None:
    damaged(f"../../../{name}", pipe)
    for verb in (("status",), ("plan",), ("halt", "all", "--reason", "test"), ("resume", "all", "--reason", "test")):
        ran = firm.run(*verb, code=None, timeout_s=PATIENCE_S)
        assert "beta" in ran.out + ran.err, told(ran)


def test_a_risk_state_that_cannot_be_read_keeps_nobody_from_resuming_the_others(firm: Firm, damaged: Damage) -> None:
    firm.run("halt", "all", "--reason", "test")
    path = damaged(RISK, folder)
    resumed = firm.run("resume", "all", "--reason", "test", code=FAILURE)
    assert "beta: recorded as action" in resumed.err and str(path) in resumed.err, told(resumed)
    assert "reducing" not in firm.run("status", "all").out


def test_a_client_is_halted_and_shown_though_a_folder_stands_in_the_place_of_its_routers_specification(
    firm: Firm,
) -> None:
    path = firm.root / "var/daemon/specs/acme/router.json"
    path.rename(firm.root / "acme")
    path.mkdir()
    try:
        halted = firm.run("halt", "acme", "--reason", "test")
        assert "acme: recorded as action" in halted.err, told(halted)
        assert "acme:cross." in firm.run("positions", "all").out
        firm.run("resume", "acme", "--reason", "test")
    finally:
        path.rmdir()
        (firm.root / "acme").rename(path)


def test_a_folder_in_the_place_of_a_status_page_keeps_nobody_from_seeing_the_others(
    firm: Firm, damaged: Damage
) -> None:
    damaged(WORKER, folder)
    assert "beta:cross.BTC-USD" in firm.run("status", "all").out
    assert "beta:cross.BTC-USD" in firm.run("plan").out


def test_a_folder_of_a_name_that_is_no_utf_8_is_told_of_and_takes_the_clients_from_nobody(firm: Firm) -> None:
    nameless = firm.root / "clients" / os.fsdecode(b"\xffx")
    nameless.mkdir()
    try:
        assert "clients/\\udcffx: expected a name" in firm.run("check", code=CONFIGURATION).out
        for verb in (("status", "all"), ("positions", "all")):
            assert "beta:cross." in firm.run(*verb).out
        assert "clients/\\udcffx: expected a name" in firm.run("status").err
        assert "beta: recorded as action" in firm.run("halt", "all", "--reason", "test").err
        firm.run("resume", "all", "--reason", "test")
    finally:
        nameless.rmdir()


def _must_name(ran: Ran, path: Path) -> None:
    assert "beta" in ran.out and "acme" not in ran.out, told(ran)
    assert ran.err.startswith(f"error: {path}: expected "), told(ran)


def test_others_are_started_beside_a_client_whose_latest_run_cannot_be_written(firm: Firm, damaged: Damage) -> None:
    firm.run("start", "acme")
    try:
        damaged(LATEST, folder)
        firm.run("start", "beta")
        until(lambda: firm.states()["beta:router"] == firm.states()["acme:router"] == "RUNNING", "both running")
    finally:
        firm.run("stop", "all")
        firm.run("down")


def test_the_paper_oms_serves_others_while_one_clients_journal_is_damaged(firm: Firm) -> None:
    """It ended at every start, for all."""
    folder = firm.root / "var" / "oms" / "mock" / "acme"
    whole = (folder / "orders.log").read_bytes()
    (folder / "book").unlink()
    flipped(folder / "orders.log")
    counts = {name: _fills(firm, name) for name in ("acme", "beta")}
    firm.run("start", "all")
    try:
        until(lambda: _fills(firm, "beta") > counts["beta"], "fills of beta's")
        assert "mend what its log says of acme" in firm.status()["oms:paper"]["reason"]
        assert _fills(firm, "acme") == counts["acme"]
        (folder / "orders.log").write_bytes(whole)
        firm.run("restart", "oms:paper")
        until(lambda: _fills(firm, "acme") > counts["acme"], "fills of acme's")
    finally:
        firm.run("stop", "all")
        firm.run("down")


def _fills(firm: Firm, client: str) -> int:
    return len(firm.run("fills", client, "-o", "name").lines)


def test_an_audit_trail_that_lacks_what_no_router_has_copied_yet_says_when_it_will_have_it(firm: Firm) -> None:
    assert "recorded as action" in firm.run("halt", "beta", "--reason", "test").err
    _must_name(firm.run("audit", "verify", "beta", code=FAILURE), firm.root / "var/clients/beta/mock/audit.log")
    assert (
        "1 of operator; the router copies them at its next start" in firm.run("audit", "verify", "beta", code=None).err
    )
    firm.run("resume", "beta", "--reason", "test")

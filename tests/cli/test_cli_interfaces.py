"""What other programs rely on: the keys and types of JSON output, what follows, what explains, and exit code 0 when it works."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cli.clients import CROSSOVER, DOUBTFUL, KEYS
from end_to_end.harness import Firm, Ran, until
from end_to_end.recordings import write_market

from strategy_runner.model.signal import canonical, decode_body

WORKER = "acme:cross.BTC-USD"
NUMBER = (int, float)
OPTIONAL_NUMBER = (int, float, type(None))
STATUS = {
    "client": (str, type(None)),
    "strategy": (str, type(None)),
    "symbol": (str, type(None)),
    "name": str,
    "process_state": str,
    "trading_state": str,
    "reason": str,
    "pid": (int, type(None)),
    "memory_mb": OPTIONAL_NUMBER,
    "lag_ms": OPTIONAL_NUMBER,
    "last_seq": int,
    "signals": int,
    "since_s": OPTIONAL_NUMBER,
}
SIGNAL = {
    "id": str,
    "client": str,
    "strategy": str,
    "symbol": str,
    "action": str,
    "size": NUMBER,
    "entry_price": NUMBER,
    "stop_loss": OPTIONAL_NUMBER,
    "take_profit": OPTIONAL_NUMBER,
    "confidence": OPTIONAL_NUMBER,
    "event_ns": int,
    "decision": str,
    "reason": str,
}


@pytest.fixture(scope="module")
def running() -> Iterator[Firm]:
    """A client that trades in mock mode, with accepted and refused signals decided already."""
    with Firm() as firm:
        firm.write("clients/acme/client.toml", CROSSOVER + DOUBTFUL + KEYS)
        firm.run("start", "acme")
        until(lambda: {row["decision"] for row in signals(firm)} >= {"accepted", "refused"}, "both kinds of decision")
        yield firm


def signals(firm: Firm, *more: object) -> list[dict[str, Any]]:
    return firm.run("signals", "acme", "-o", "json", *more).objects()


def assert_types(row: dict[str, Any], types: dict[str, Any]) -> None:
    for key, expected in types.items():
        assert isinstance(row[key], expected) and not isinstance(row[key], bool), (key, row)


def test_status_is_one_array_of_every_process_with_what_it_is_and_does(running: Firm) -> None:
    rows = running.run("status", "-o", "json").json()
    by_name = {row["name"]: row for row in rows}
    assert list(by_name) == ["market:feed", "monitor:watchdog", "acme:router", WORKER, "acme:doubtful.BTC-USD"]
    for row in rows:
        assert_types(row, STATUS)
        assert row["process_state"] == "RUNNING" and row["pid"] in running.processes()
        assert row["memory_mb"] > 0 and row["since_s"] >= 0
    feed, router, worker = by_name["market:feed"], by_name["acme:router"], by_name[WORKER]
    assert (feed["client"], feed["strategy"], feed["symbol"], feed["trading_state"]) == (None, None, None, "publishing")
    assert (router["client"], router["strategy"], router["symbol"]) == ("acme", None, None)
    assert (worker["client"], worker["strategy"], worker["symbol"]) == ("acme", "cross", "BTC-USD")
    assert worker["trading_state"] == "trading" and worker["lag_ms"] >= 0 and worker["last_seq"] > 0
    assert worker["signals"] > 0


def test_the_status_of_a_target_has_only_its_processes(running: Firm) -> None:
    targets = ("acme:cross", "acme:cross:BTC-USD", WORKER, "market:feed", "acme")
    *workers, feed, client = (ran.lines for ran in running.run_all(*(("status", t, "-o", "name") for t in targets)))
    assert workers == [[WORKER]] * 3 and feed == ["market:feed"]
    assert client == ["acme:router", WORKER, "acme:doubtful.BTC-USD"]


def test_signals_are_one_object_a_line_with_the_decision(running: Firm) -> None:
    rows = signals(running)
    for row in rows:
        assert_types(row, SIGNAL)
        assert row["client"] == "acme" and row["symbol"] == "BTC-USD" and row["action"] in ("buy", "sell", "close")
    accepted = [row for row in rows if row["decision"] == "accepted"]
    refused = [row for row in rows if row["decision"] == "refused"]
    assert {row["reason"] for row in accepted} == {""}
    assert {(row["strategy"], row["reason"]) for row in refused} == {("doubtful", "confidence_below_threshold")}
    entry = next(row for row in accepted if row["action"] == "buy")
    assert entry["stop_loss"] == pytest.approx(entry["entry_price"] * 0.99)
    assert entry["take_profit"] is None and entry["confidence"] is None
    assert refused[0]["confidence"] is not None
    assert len({row["id"] for row in rows}) == len(rows)
    limited = signals(running, "-n", 2)
    assert len(limited) == 2
    assert all(row["decision"] == "accepted" for row in signals(running, "--accepted"))


def test_bodies_are_canonical_bytes_of_one_signal_a_line(running: Firm) -> None:
    lines = running.bodies("acme").splitlines()
    assert lines and all(canonical(decode_body(line.encode())).decode() == line for line in lines)
    assert {"cause", "models", "reasons"} <= msgspec.json.decode(lines[0]).keys()


def test_following_signals_shows_them_as_they_come_until_an_interrupt(running: Firm) -> None:
    following = running.follow("signals", "acme", "-f", "-o", "json", "-n", 1)
    assert following.stdout is not None
    lines = [following.stdout.readline() for _ in range(3)]
    os.killpg(following.pid, signal.SIGINT)
    rest, err = following.communicate(timeout=30)
    assert (following.returncode, err) == (0, "")
    known = running.bodies("acme")
    assert all(f'"id":"{line.split(chr(34))[3]}"' in known for line in lines)
    assert all(line.endswith("}\n") for line in (*lines, *rest.splitlines(keepends=True))), "whole lines only"


def test_the_reader_of_a_pipe_may_leave(running: Firm) -> None:
    following = running.follow("signals", "acme", "-f")
    assert following.stdout is not None
    following.stdout.readline()
    following.stdout.close()
    assert following.wait(timeout=30) == 0
    assert following.stderr is not None and following.stderr.read() == ""


def test_explain_tells_the_whole_way_of_an_accepted_signal(running: Firm) -> None:
    # DuckDB writes at its own pace: what it has, it has
    accepted = signals(running, "--accepted")[0]
    until(lambda: delivered(explained(running, accepted["id"])), "the signal in every sink")
    story = explained(running, accepted["id"])
    assert list(story) == ["record", "strategy", "pipeline", "recorded", "decision", "sinks"]
    assert story["record"][0].startswith("BTC-USD/bar.10s ordinal ") and "close " in story["record"][0]
    assert "crc" in story["record"][1] and story["record"][1].endswith("holds")
    assert story["pipeline"][0].startswith("passed: size 0.5, entry ")
    assert story["decision"][0] == "accepted"
    assert [line.split()[0] for line in story["sinks"]] == ["duckdb", "quantconnect"]
    csv, number = story["sinks"][1].split()[1].rstrip(":"), int(story["sinks"][1].split()[-1])
    assert accepted["id"] in Path(csv).read_text().splitlines()[number - 1]


def test_explain_names_the_predictions_and_the_rule_of_a_refused_signal(running: Firm) -> None:
    refused = next(row for row in signals(running) if row["decision"] == "refused")
    story = explained(running, refused["id"])
    assert (
        story["predictions"][0].startswith("unsure: score ")
        and "BTC-USD/prediction.unsure.10s" in story["predictions"][0]
    )
    assert story["pipeline"][0].startswith("refused: confidence_below_threshold: ")
    assert story["decision"][0].startswith("refused: confidence_below_threshold")
    shown = running.run("explain", refused["id"])
    assert [line for line in shown.lines if not line.startswith(" ")] == list(story)


def explained(firm: Firm, signal_id: str) -> dict[str, list[str]]:
    story = firm.run("explain", signal_id, "-o", "json").json()
    assert story["id"] == signal_id
    return dict(story["chapters"])


def delivered(story: dict[str, list[str]]) -> bool:
    return len(story["sinks"]) == 2 and story["sinks"][0].endswith("has it")


def test_sql_answers_while_the_router_writes_and_after_it_has_stopped(firm: Firm) -> None:
    firm.write("clients/acme/client.toml", CROSSOVER)
    firm.run("start", "acme")
    count = "SELECT count(*) AS signals, max(number) + 1 AS numbered FROM signals WHERE symbol = 'BTC-USD'"
    row = until(lambda: counted(firm.run("sql", "acme", count, "-o", "json")), "rows in DuckDB")
    assert row["signals"] == row["numbered"]
    firm.run("stop", "acme")
    decided = len(firm.bodies("acme").splitlines())
    assert firm.run("sql", "acme", count, "-o", "json").json()["signals"] == decided
    limited = firm.run("sql", "acme", "SELECT number FROM signals", "--limit", 1, "-o", "name")
    assert (limited.lines, limited.err) == (["0"], "the first 1 row; --limit shows more\n")


def counted(ran: Ran) -> dict[str, Any] | None:
    row: dict[str, Any] = ran.json()
    return row if row["signals"] else None


def test_logs_show_the_last_lines_of_the_processes_meant(running: Firm) -> None:
    shown = running.run("logs", "market:feed", "-n", 5)
    assert any("feed: epoch 1" in line for line in shown.lines)
    following = running.follow("logs", "market:feed", "-f")
    assert following.stdout is not None and following.stdout.readline()
    os.killpg(following.pid, signal.SIGINT)
    following.communicate(timeout=30)
    assert following.returncode == 0


def test_show_config_names_the_origin_of_each_value_and_no_secret(running: Firm) -> None:
    environ = {"ACME_PROJECT": "hush-hush", "STRATEGY_RUNNER__LIMITS__MEMORY_LIMIT_MB": "333"}
    rows = {row["key"]: row for row in running.run("show-config", "acme", "-o", "json", environ=environ).json()}
    assert (rows["limits.memory_limit_mb"]["value"], rows["limits.memory_limit_mb"]["origin"]) == (
        "333",
        "STRATEGY_RUNNER__LIMITS__MEMORY_LIMIT_MB",
    )
    assert rows["limits.cpu_limit"]["origin"] == "configs/local-dev.toml"
    assert rows["strategies[0].size"]["origin"] == "clients/acme/client.toml"
    assert rows["strategies[0].models"]["origin"] == "built-in"
    assert rows["quantconnect.project_id"]["value"] == '{ env = "ACME_PROJECT" }'
    assert "hush-hush" not in str(rows)
    environment = {row["key"] for row in running.run("show-config", "-o", "json").json()}
    assert "mock.seed" in environment and "instruments.BTC-USD.price" in environment


def test_plan_names_every_process_that_the_files_ask_for(firm: Firm) -> None:
    firm.write("clients/acme/client.toml", CROSSOVER)
    rows = firm.run("plan", "-o", "json").json()
    assert [(row["name"], row["action"]) for row in rows] == [
        ("market:feed", "start"),
        ("monitor:watchdog", "start"),
        ("acme:router", "start"),
        (WORKER, "start"),
    ]
    assert firm.run("plan", "acme", "-o", "name").lines == ["acme:router", WORKER]


def test_home_may_stand_before_and_after_the_verb_and_in_the_environment(running: Firm, firm: Firm) -> None:
    names = ["market:feed", "monitor:watchdog", "acme:router", WORKER, "acme:doubtful.BTC-USD"]
    assert firm.run("status", "-o", "name", "--home", running.root).lines == names
    assert firm.run("--home", running.root, "status", "-o", "name").lines == names


def test_stdout_is_data_and_stderr_is_talk(running: Firm) -> None:
    for ran in running.run_all(("start", "acme"), ("apply",), ("up",)):
        assert (ran.code, ran.out) == (0, "") and ran.err
    for ran in running.run_all(("status",), ("signals", "acme"), ("plan",), ("show-config", "acme")):
        assert (ran.code, ran.err) == (0, "") and ran.out


def test_without_any_patience_start_says_what_is_not_ready_yet(firm: Firm) -> None:
    firm.write("clients/acme/client.toml", CROSSOVER)
    write_market(firm.root / "history", "BTC-USD", seed=1, seconds=20_000, per_second=5)
    history = ("--mode", "simulation", "--history", firm.root / "history", "--speed", "0")
    assert "expected all ready within 0 s" in firm.run("start", "acme", *history, "--timeout", "0", code=5).err

"""parity: a recorded run that is run again gives the same signals; what does not fit is found, named and counted."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from end_to_end.harness import Firm, told, until
from evidence.recorded_run import (
    CROSS,
    LISTENING,
    LOW,
    flip,
    forge,
    logged,
    rewrite,
    segment_of,
    signal_log,
    with_body,
)
from worker.build import rerun

from strategy_runner.history.difference import seq_of
from strategy_runner.model.signal import decode_body
from strategy_runner.supervision.forked import run_forked
from strategy_runner.tape.files import head_path
from strategy_runner.tape.head import Head
from strategy_runner.tape.reader import TapeReader
from strategy_runner.worker.genesis import read_geneses


def parity(firm: Firm, *arguments: object, code: int) -> dict[str, Any]:
    ran = firm.run("parity", *(arguments or ("acme",)), "-o", "json", code=code)
    found: dict[str, Any] = ran.json()
    assert found["equal"] == (code == 0), told(ran)
    return found


def in_child(job: Callable[[], bytes]) -> bytes:
    """What a job gives in a process of its own: here a reader of the tape would keep files of the home open."""
    (ended,) = run_forked({"job": job}, parallel=1, show=lambda *_: None).values()
    assert ended.code == 0
    return ended.result


def worker(found: dict[str, Any], name: str) -> dict[str, Any]:
    (one,) = [row for row in found["workers"] if row["worker"] == f"acme:{name}"]
    return one  # type: ignore[no-any-return]


def counts(row: dict[str, Any]) -> dict[str, int]:
    return {kind: row[kind] for kind in ("different", "lost", "doubled", "alien") if row[kind]}


def test_a_run_of_killed_processes_gives_the_same_bytes_again(recorded: Firm) -> None:
    found = parity(recorded, code=0)
    assert {row["worker"] for row in found["workers"]} == {f"acme:{name}" for name in (CROSS, LISTENING, LOW)}
    for row in found["workers"]:
        folder = recorded.home.client_state("acme", "mock") / "workers" / row["worker"].partition(":")[2]
        assert row["signals"] == len(logged(folder / "signals.log")) > 5
        assert row["equal"] and counts(row) == {} and row["notes"] == []
    assert "equal" in recorded.run("parity", "acme").out


def test_bars_predictions_and_ticks_are_made_again_from_raw_records_and_from_bars(recorded: Firm) -> None:
    symbols = {row["symbol"]: row for row in parity(recorded, code=0)["derivation"]}
    assert symbols["BTC-USD"]["base"] == "BTC-USD/trade"
    assert symbols["BTC-USD"]["records"] > 1000
    assert symbols["ETH-USD"]["base"] == "ETH-USD/bar"
    assert "ETH-USD/trade is not on the tape: bars and clock are taken as recorded" in symbols["ETH-USD"]["notes"]


def test_a_seed_of_the_models_that_was_changed_is_told_and_is_no_difference(damaged: Firm) -> None:
    damaged.edit("configs/local-dev.toml", "\nseed = 11\n", "\nseed = 12\n")
    head = Head(head_path(damaged.home.market("mock") / "tape"))
    damaged.run("up")
    before = head.count
    until(lambda: head.count > before + 2_000, "records of the new seed")
    damaged.run("down")
    (symbol,) = [row for row in parity(damaged, code=0)["derivation"] if row["symbol"] == "ETH-USD"]
    assert "models.seed was changed while this was recorded: its predictions are those of 11 and 12" in symbol["notes"]


def test_a_derived_record_that_its_raw_records_do_not_give_is_named(damaged: Firm) -> None:
    tape = damaged.home.market("mock") / "tape"
    cause = decode_body(logged(signal_log(damaged.home, CROSS))[6].body).cause
    bar = logged(signal_log(damaged.home, CROSS))[6].envelope.seq
    vote = next(v for s in logged(signal_log(damaged.home, LOW)) for v in decode_body(s.body).models)
    forge(tape, bar, (cause.values[0] or 0.0, (cause.values[1] or 0.0) + 1.0))
    prediction = in_child(lambda: str(seq_of(TapeReader(tape), vote.stream, vote.ordinal)).encode()).decode()
    forge(tape, int(prediction), (0.125,))

    symbols = {row["symbol"]: row["first_difference"] for row in parity(damaged, code=1)["derivation"]}
    assert symbols["BTC-USD"].startswith(f"seq {bar}: BTC-USD/bar.10s ordinal {cause.ordinal}: expected ")
    assert symbols["ETH-USD"].startswith(f"seq {prediction}: {vote.stream} ordinal {vote.ordinal}: expected ")


def test_rerun_gives_the_bodies_of_a_worker_in_order(recorded: Firm) -> None:
    log, tape = signal_log(recorded.home, LISTENING), recorded.home.market("mock") / "tape"
    (genesis,) = read_geneses(log.parent)
    recorded_signals = logged(log)
    last = recorded_signals[-1].envelope.seq
    bodies = [signal.body for signal in recorded_signals]
    assert in_child(lambda: b"\n".join(rerun(genesis.spec, tape, genesis, last))) == b"\n".join(bodies)
    before_last = [signal.body for signal in recorded_signals if signal.envelope.seq < last]
    assert in_child(lambda: b"\n".join(rerun(genesis.spec, tape, genesis, last - 1))) == b"\n".join(before_last)


def test_a_changed_byte_in_a_body_is_shown_with_its_field_and_its_input(damaged: Firm) -> None:
    path = signal_log(damaged.home, CROSS)
    before = logged(path)[4]
    body = before.body.replace(b'"action":"buy"', b'"action":"bux"').replace(b'"action":"close"', b'"action":"closf"')
    assert body != before.body
    rewrite(path, lambda signals: [*signals[:4], with_body(signals[4], body), *signals[5:]])

    row = worker(parity(damaged, code=1), CROSS)
    assert counts(row) == {"different": 1}
    first = row["first"]
    assert (first["kind"], first["n"], first["seq"]) == ("different", 4, before.envelope.seq)
    assert (first["derived"], first["recorded"]) == (before.body.decode(), body.decode())
    assert [field["path"] for field in first["fields"]] == ["action"]
    assert first["input"]["seq"] == before.envelope.seq

    shown = damaged.run("parity", "acme", code=1).out
    assert f"first different: signal 4 at seq {before.envelope.seq}" in shown
    assert damaged.run("parity", "acme", "-o", "name", code=1).lines == [f"acme:{CROSS}"]


def test_a_changed_cause_names_the_record_that_the_tape_holds_instead(damaged: Firm) -> None:
    path = signal_log(damaged.home, CROSS)
    before = logged(path)[2]
    cause = decode_body(before.body).cause
    body = before.body.replace(str(cause.values[0]).encode(), b"1.5", 1)
    rewrite(path, lambda signals: [*signals[:2], with_body(signals[2], body), *signals[3:]])

    first = worker(parity(damaged, code=1), CROSS)["first"]
    assert first["input"]["stream"] == cause.stream
    assert first["input"]["seq"] == before.envelope.seq
    assert "the tape holds" in first["input"]["word"] and "1.5" in first["input"]["word"]


def test_a_prediction_that_differs_is_named_before_the_cause(damaged: Firm) -> None:
    path = signal_log(damaged.home, LOW)
    at, before = next((i, s) for i, s in enumerate(logged(path)) if decode_body(s.body).models)
    vote = decode_body(before.body).models[1]
    body = before.body.replace(f'"score":{vote.score!r}'.encode(), b'"score":0.5')
    assert body != before.body
    rewrite(path, lambda signals: [*signals[:at], with_body(signals[at], body), *signals[at + 1 :]])

    first = worker(parity(damaged, code=1), LOW)["first"]
    assert [field["path"] for field in first["fields"]] == ["models[1].score"]
    assert (first["input"]["stream"], first["input"]["ordinal"]) == (vote.stream, vote.ordinal)
    tape, seq = damaged.home.market("mock") / "tape", first["input"]["seq"]
    assert in_child(lambda: repr(TapeReader(tape).record(seq).v0).encode()) == repr(vote.score).encode()


def test_a_missing_a_doubled_and_an_alien_signal_are_counted_apart(damaged: Firm) -> None:
    signals = logged(signal_log(damaged.home, CROSS))
    rewrite(signal_log(damaged.home, CROSS), lambda signals: [*signals[:3], *signals[4:]])
    rewrite(signal_log(damaged.home, LISTENING), lambda signals: [*signals[:2], signals[1], *signals[2:]])
    rewrite(signal_log(damaged.home, LOW), lambda signals: [*signals, _one_more(signals[-1])])

    found = parity(damaged, code=1)
    assert {row["worker"].partition(":")[2]: counts(row) for row in found["workers"]} == {
        CROSS: {"lost": 1},
        LISTENING: {"doubled": 1},
        LOW: {"alien": 1},
    }
    lost = worker(found, CROSS)["first"]
    assert (lost["kind"], lost["n"], lost["recorded"]) == ("lost", 3, None)
    assert (lost["derived"], lost["seq"]) == (signals[3].body.decode(), signals[3].envelope.seq)
    assert worker(found, LOW)["first"]["derived"] is None


def _one_more(signal: Any) -> Any:
    envelope = msgspec.structs.replace(signal.envelope, n=signal.envelope.n + 1)
    return msgspec.structs.replace(signal, envelope=envelope)


def test_a_period_is_compared_alone(damaged: Firm) -> None:
    path = signal_log(damaged.home, CROSS)
    signals = logged(path)
    rewrite(path, lambda signals: [signals[0], *signals[2:]])
    lost_ns = decode_body(signals[1].body).cause.event_ns
    minute = lost_ns // 60_000_000_000 + 1
    after = f"{datetime.fromtimestamp(60 * minute, UTC):%Y-%m-%dT%H:%M:%SZ}"

    whole = worker(parity(damaged, "acme:cross", code=1), CROSS)
    assert counts(whole) == {"lost": 1}
    later = worker(parity(damaged, "acme:cross", "--from", after, code=0), CROSS)
    assert 0 < later["signals"] < len(signals)
    earlier = worker(parity(damaged, "acme:cross", "--to", after, code=1), CROSS)
    assert counts(earlier) == {"lost": 1}
    assert later["signals"] + earlier["signals"] == whole["signals"]


def test_code_that_was_edited_since_does_not_concern_what_was_recorded(damaged: Firm) -> None:
    damaged.edit("clients/acme/strategies/listener.py", "self._held >= self.params", "self._held > self.params")
    row = worker(parity(damaged, code=0), LISTENING)
    assert row["equal"] and not row["notes"]


def test_without_the_code_of_the_time_todays_is_run_and_said_to_be_another(damaged: Firm) -> None:
    shutil.rmtree(damaged.home.var / "code")
    damaged.edit(
        "clients/acme/strategies/listener.py",
        "held_timers: Annotated[int, Meta(ge=1)] = 2",
        "held_timers: Annotated[int, Meta(ge=1)] = 2  # the same",
    )
    same = worker(parity(damaged, code=0), LISTENING)
    assert "code or versions have changed since" in same["notes"][0]

    damaged.edit("clients/acme/strategies/listener.py", "self._held >= self.params", "self._held > self.params")
    row = worker(parity(damaged, code=1), LISTENING)
    assert "code or versions have changed since" in row["notes"][0]
    assert row["first"]["kind"] == "different"
    assert row["first"]["input"]["seq"] is not None


def test_damage_on_the_tape_is_told_with_file_and_seq(damaged: Firm) -> None:
    tape = damaged.home.market("mock") / "tape"
    seq = logged(signal_log(damaged.home, CROSS))[3].envelope.seq
    segment, offset = segment_of(tape, seq)
    flip(segment, offset + 40)
    row = worker(parity(damaged, code=1), CROSS)
    assert f"{segment.name}: seq {seq}" in row["problem"]


def test_damage_of_a_signal_log_is_told_with_file_and_offset(damaged: Firm) -> None:
    path = signal_log(damaged.home, CROSS)
    flip(path, 300)
    assert f"{path}: offset" in worker(parity(damaged, code=1), CROSS)["problem"]


def test_code_that_may_not_run_any_more_is_told_and_the_others_are_compared(damaged: Firm) -> None:
    shutil.rmtree(damaged.home.var / "code")
    damaged.edit(
        "clients/acme/strategies/listener.py",
        "def on_start(self) -> None:",
        "def on_start(self) -> None:\n        import os\n        os._exit(9)",
    )
    found = parity(damaged, code=1)
    assert "listener.py" in worker(found, LISTENING)["problem"]
    assert worker(found, CROSS)["equal"]


def test_what_was_never_recorded_is_a_message(recorded: Firm, tmp_path: Path) -> None:
    for arguments, code in ((("nobody",), 2), (("acme:none",), 2), (("acme", "--mode", "simulation"), 3)):
        ran = recorded.run("parity", *arguments, code=code)
        assert ran.out == "" and ran.err.startswith("error: "), told(ran)

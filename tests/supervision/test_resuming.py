"""Resuming parked workers in a home without a daemon: what is forgotten, what is skipped, and what a safety rule refuses."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from worker.build import Followers, new_tape, random_rows, run_out, short_folder, worker_spec, write_rows

from strategy_runner.config.home import Home
from strategy_runner.config.spec import WorkerSpec, write_spec
from strategy_runner.errors import SafetyRefusal, UsageError
from strategy_runner.supervision.resuming import resume_parked
from strategy_runner.supervision.target import parse_target
from strategy_runner.tape.writer import TapeWriter
from strategy_runner.worker.parking import Trouble, read_trouble, write_trouble
from strategy_runner.worker.skips import read_skips

ROWS = random_rows(3, 10)
SEQ = [name for name, _, _ in ROWS].index("X/quote")


@pytest.fixture
def home() -> Iterator[Home]:
    with short_folder() as folder:
        (folder / "clients" / "acme").mkdir(parents=True)
        (folder / "clients" / "acme" / "client.toml").touch()
        (folder / "configs").mkdir()
        yield Home(folder)


@pytest.fixture
def tape(home: Home) -> TapeWriter:
    writer = new_tape(home.root)
    write_rows(writer, ROWS)
    return writer


def parked(home: Home, strategy: str = "talk", **changes: Any) -> WorkerSpec:
    """A worker that was parked at the record SEQ."""
    spec = worker_spec(home.root, strategy=strategy, folder=str(home.var / strategy))
    write_spec(home.daemon / "specs" / "acme" / f"{strategy}.X.json", spec)
    Path(spec.folder).mkdir(parents=True)
    trouble = Trouble(
        generation=spec.generation,
        seq=SEQ,
        tries=3,
        stream="X/quote",
        ordinal=0,
        error="RuntimeError: no",
        ends_ns=(1, 2, 3),
        parked_ns=4,
        why="3 tries",
    )
    write_trouble(Path(spec.folder), msgspec.structs.replace(trouble, **changes))
    return spec


def trouble_of(spec: WorkerSpec) -> Trouble:
    return read_trouble(Path(spec.folder), spec.generation)


def resume(home: Home, target: str = "acme", *, skip: bool = False) -> list[str]:
    return [one.name for one in resume_parked(home, [parse_target(target)], skip=skip, reason="an outlier")]


def test_without_a_skip_the_tries_are_forgotten_and_the_record_stays(home: Home, tape: TapeWriter) -> None:
    spec, other = parked(home), parked(home, "other")
    before = time.time_ns()
    assert resume(home, "acme:talk:X") == ["acme:talk.X"]
    trouble = trouble_of(spec)
    assert (trouble.is_parked, trouble.tries, trouble.ends_ns, trouble.resumed_why) == (False, 0, (), "an outlier")
    assert before <= trouble.resumed_ns <= time.time_ns()
    assert read_skips(Path(spec.folder), spec.generation) == []
    assert trouble_of(other).is_parked


def test_with_a_skip_each_workers_own_record_is_noted_with_who_said_why(home: Home, tape: TapeWriter) -> None:
    specs = [parked(home), parked(home, "other")]
    assert resume(home, "all", skip=True) == ["acme:other.X", "acme:talk.X"]
    for spec in specs:
        (skip,) = read_skips(Path(spec.folder), spec.generation)
        assert (skip.seq, skip.stream, skip.ordinal, skip.reason) == (SEQ, "X/quote", 0, "an outlier")
        assert not trouble_of(spec).is_parked


def test_nothing_parked_is_a_wrong_question(home: Home, tape: TapeWriter) -> None:
    parked(home, parked_ns=0)
    with pytest.raises(UsageError, match="acme: expected a parked worker, found none"):
        resume(home)


REFUSED = [
    ({"tries": 0, "seq": -1, "why": "ended 9 times within 60 s"}, "expected one record to skip, found none"),
    ({"stream": "", "ordinal": -1}, f"seq {SEQ}: expected the record on the tape"),
    ({"seq": len(ROWS), "ordinal": 999}, f"expected a durable record, found the tape durable below seq {len(ROWS)}"),
]


@pytest.mark.parametrize(("changes", "problem"), REFUSED, ids=["no record", "not kept", "not durable"])
def test_a_skip_that_may_not_be_is_refused_and_nothing_changes(
    home: Home, tape: TapeWriter, changes: dict[str, Any], problem: str
) -> None:
    good, bad = parked(home), parked(home, "later", **changes)
    with pytest.raises(SafetyRefusal, match=problem):
        resume(home, "acme", skip=True)
    assert trouble_of(good).is_parked and trouble_of(bad).is_parked
    assert read_skips(Path(good.folder), good.generation) == []


def test_a_record_that_the_worker_has_acted_upon_cannot_be_skipped(home: Home, tape: TapeWriter) -> None:
    spec, followers = parked(home), Followers()
    try:
        run_out(followers.make(spec))
        with pytest.raises(SafetyRefusal, match=r"expected a record that it has not acted upon, found \d+ signals"):
            resume(home, skip=True)
    finally:
        followers.close()
    assert trouble_of(spec).is_parked

"""The outbox: what is derived again is compared and never written twice."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from file_limit import files_no_larger_than
from worker.build import Echo, Recorded, logged, worker_spec

from strategy_runner.errors import DivergenceError
from strategy_runner.model.signal import SignalBody, canonical, digest
from strategy_runner.worker.outbox import Outbox

OTHER = "0badcaff"


def bodies(count: int, generation: str = "0badcafe") -> list[SignalBody]:
    run = Recorded(worker_spec(Path("unused"), streams=("X/trade",), generation=generation), Echo)
    run.machine.start()
    run.apply([("X/trade", number, (100.0 + number, 1.0, 1.0)) for number in range(count)])
    return run.bodies


def outbox(folder: Path, **given: Any) -> Outbox:
    return Outbox(folder / "signals.log", **{"generation": "0badcafe", "mode": "mock", **given})


def record_all(box: Outbox, signals: list[SignalBody], first: int = 0) -> None:
    for n, body in enumerate(signals[first:], first):
        box.record(n, body, seq=10 * n)


def test_what_is_recorded_stands_in_the_log_with_its_envelope_and_digest(tmp_path: Path) -> None:
    box = outbox(tmp_path)
    box.epoch = 7
    record_all(box, bodies(2))
    assert logged(tmp_path / "signals.log") == []
    assert box.flush() == 2
    first, second = logged(tmp_path / "signals.log")
    assert (second.envelope.n, second.envelope.seq, second.envelope.epoch) == (1, 10, 7)
    assert (second.envelope.mode, second.envelope.generation) == ("mock", "0badcafe")
    assert first.body == canonical(bodies(1)[0])
    assert second.digest == digest(second.body)
    assert box.flush() == 0


def test_signals_derived_again_are_not_written_twice(tmp_path: Path) -> None:
    box = outbox(tmp_path)
    record_all(box, bodies(5))
    box.flush()
    box.close()
    before = (tmp_path / "signals.log").read_bytes()
    again = outbox(tmp_path)
    record_all(again, bodies(8))
    assert again.flush() == 3
    assert again.signals == 8
    assert (tmp_path / "signals.log").read_bytes()[: len(before)] == before
    assert [signal.envelope.n for signal in logged(tmp_path / "signals.log")] == list(range(8))


def test_signals_derived_again_from_a_snapshot_are_compared_from_its_place_on(tmp_path: Path) -> None:
    box = outbox(tmp_path)
    signals = bodies(6)
    record_all(box, signals[:3])
    box.flush()
    offset = box.offset
    record_all(box, signals[:5], first=3)
    box.flush()
    again = outbox(tmp_path, n=3, offset=offset)
    record_all(again, signals, first=3)
    assert again.flush() == 1
    assert [signal.envelope.n for signal in logged(tmp_path / "signals.log")] == list(range(6))


def test_its_place_is_where_the_first_signal_stands_that_is_still_to_be_derived_again(tmp_path: Path) -> None:
    box = outbox(tmp_path)
    signals, places = bodies(4), []
    for n, body in enumerate(signals):
        places.append(box.offset)
        box.record(n, body, seq=10 * n)
        box.flush()
    end = box.offset
    again = outbox(tmp_path)
    for n, body in enumerate(signals):
        assert again.offset == places[n]
        again.record(n, body, seq=10 * n)
    assert again.offset == end


def test_another_signal_of_the_same_number_is_a_divergence_and_nothing_is_written(tmp_path: Path) -> None:
    box = outbox(tmp_path)
    record_all(box, bodies(2))
    box.flush()
    again = outbox(tmp_path)
    again.record(0, bodies(1)[0], seq=0)
    other = msgspec.structs.replace(bodies(2)[1], size=9.0)
    with pytest.raises(DivergenceError, match=r"signal acme:talk\.X@0badcafe/1: expected digest .* when derived again"):
        again.record(1, other, seq=10)
    again.flush()
    assert len(logged(tmp_path / "signals.log")) == 2


def test_a_new_generation_begins_at_0_in_the_same_log(tmp_path: Path) -> None:
    old = outbox(tmp_path)
    record_all(old, bodies(3))
    old.flush()
    new = outbox(tmp_path, generation=OTHER)
    record_all(new, bodies(2, OTHER))
    assert new.flush() == 2
    found = [(signal.envelope.generation, signal.envelope.n) for signal in logged(tmp_path / "signals.log")]
    assert found == [("0badcafe", 0), ("0badcafe", 1), ("0badcafe", 2), (OTHER, 0), (OTHER, 1)]


def test_a_generation_that_comes_back_and_begins_anew_goes_on_behind_its_last_number(tmp_path: Path) -> None:
    for generation, count in (("0badcafe", 3), (OTHER, 1)):
        box = outbox(tmp_path, generation=generation)
        assert box.begin_after_recorded() == 0
        record_all(box, bodies(count, generation))
        box.flush()
    back = outbox(tmp_path)
    assert back.begin_after_recorded() == 3
    back.record(3, bodies(9)[8], seq=99)
    back.flush()
    assert logged(tmp_path / "signals.log")[-1].envelope.n == 3


def test_a_torn_last_signal_is_cut_off_and_written_again(tmp_path: Path) -> None:
    box = outbox(tmp_path)
    record_all(box, bodies(3))
    box.flush()
    path = tmp_path / "signals.log"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    again = outbox(tmp_path)
    record_all(again, bodies(3))
    assert again.flush() == 1
    assert [signal.envelope.n for signal in logged(path)] == [0, 1, 2]


def test_a_full_disk_keeps_the_signals_for_another_try_and_leaves_no_half_of_one(tmp_path: Path) -> None:
    box = outbox(tmp_path)
    record_all(box, bodies(2))
    box.flush()
    path = tmp_path / "signals.log"
    size = path.stat().st_size
    record_all(box, bodies(4), first=2)
    with files_no_larger_than(size + 100):
        for _ in range(2):
            with pytest.raises(OSError, match="File too large"):
                box.flush()
        assert path.stat().st_size == size
    assert box.flush() == 2
    assert [signal.envelope.n for signal in logged(path)] == [0, 1, 2, 3]


def test_signals_of_records_that_a_power_cut_took_are_taken_back(tmp_path: Path) -> None:
    before = outbox(tmp_path)
    before.epoch = 1
    record_all(before, bodies(6))
    before.flush()
    before.close()

    after = outbox(tmp_path, cuts=[(2, 30)])
    after.epoch = 2
    after.record(3, msgspec.structs.replace(bodies(4)[3], reasons=("another record has this seq now",)), seq=30)
    after.flush()

    kept = [(one.envelope.n, one.envelope.epoch, one.envelope.seq) for one in logged(tmp_path / "signals.log")]
    assert kept == [(0, 1, 0), (1, 1, 10), (2, 1, 20), (3, 2, 30)]

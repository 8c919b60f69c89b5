"""The decision log read from any number on: the reader begins near it, and gives what a reading from the start gives."""

import random
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from router.desk import body_of

from strategy_runner.errors import CorruptRecordError
from strategy_runner.model.decision import Decision
from strategy_runner.model.signal import Envelope, canonical
from strategy_runner.router import journal as journal_module
from strategy_runner.router.journal import SEARCH_BYTES, DecisionReader, Journal
from strategy_runner.tape.logs import START, frame_behind, read_log

COUNT = 3_000


def decision(number: int, luck: random.Random) -> Decision:
    reasons = ("because " * luck.randrange(1, 60), "\0\0\0\0" * luck.randrange(3))
    return Decision(
        number=number,
        signal_id=f"acme:talk.X@0badcafe/{number}",
        verdict="accepted",
        reason="",
        decided_ns=luck.randrange(1 << 62),
        envelope=Envelope(
            n=number, seq=number, epoch=1, mode="mock", received_ns=1 << 40, recorded_ns=1, generation="0badcafe"
        ),
        body=canonical(body_of("talk.X", number, reasons=reasons)),
    )


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    luck = random.Random(11)
    journal = Journal(tmp_path_factory.mktemp("router"))
    for first in range(0, COUNT, 500):
        journal.append([decision(number, luck) for number in range(first, first + 500)], {})
    journal.close()
    assert journal.path.stat().st_size > 8 * SEARCH_BYTES
    yield journal.path


def numbers(reader: DecisionReader) -> list[int]:
    found: list[int] = []
    while decisions := reader.read():
        found += [decision.number for decision in decisions]
    return found


@pytest.mark.parametrize("number", [0, 1, 2, 499, 1_500, 2_345, COUNT - 1, COUNT, COUNT + 5])
def test_a_reader_begins_at_its_number_and_reads_little_before_it(log: Path, number: int) -> None:
    reader = DecisionReader(log, number)
    passed = reader.number
    assert passed <= min(number, COUNT)
    assert min(number, COUNT) - passed < 1_000
    assert numbers(reader) == list(range(number, COUNT))
    assert reader.number == COUNT


def test_a_reader_of_accepted_ones_passes_the_others_and_ends_only_where_the_log_does(tmp_path: Path) -> None:
    journal, luck = Journal(tmp_path), random.Random(7)
    for first in range(0, 3 * COUNT, COUNT):  # the middle third has none that is accepted
        made = [decision(number, luck) for number in range(first, first + COUNT)]
        refused = [msgspec.structs.replace(one, verdict="refused") for one in made]
        journal.append(
            [
                one if first != COUNT and one.number % 7 == 0 else other
                for one, other in zip(made, refused, strict=True)
            ],
            {},
        )
    reader, found = DecisionReader(journal.path, 10), []
    while decisions := reader.read(accepted=True):
        found += [one.number for one in decisions]
    assert found == [n for n in range(10, 3 * COUNT) if n % 7 == 0 and n // COUNT != 1]
    assert reader.number == 3 * COUNT


def test_no_reader_begins_behind_its_number(log: Path) -> None:
    for number in range(COUNT):
        reader = DecisionReader(log, number)
        assert reader.number <= number
        reader.close()


def test_a_reader_of_a_log_that_is_not_there_yet_waits_for_its_number(tmp_path: Path) -> None:
    reader = DecisionReader(tmp_path / "decisions.log", 2)
    assert numbers(reader) == []
    journal, luck = Journal(tmp_path), random.Random(1)
    journal.append([decision(number, luck) for number in range(4)], {})
    assert numbers(reader) == [2, 3]


def test_the_frame_behind_any_place_is_the_next_one_there_is(log: Path) -> None:
    offsets, at = [], START
    for payload in read_log(log):
        offsets.append((at, payload))
        at += 8 + len(payload)
    luck = random.Random(2)
    for place in (0, START, *(luck.randrange(at) for _ in range(300)), at):
        assert frame_behind(log, place) == next((one for one in offsets if one[0] >= place), None)


def test_a_restart_reads_what_came_since_the_note_however_long_the_log_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "NOTE_DECISIONS", 50)
    journal, luck = Journal(tmp_path), random.Random(1)
    for first in range(0, 600, 20):
        journal.append([decision(number, luck) for number in range(first, first + 20)], {})
        journal.note({})
    journal.close()
    read: list[bytes] = []
    decode = journal_module.decode_decision
    monkeypatch.setattr(journal_module, "decode_decision", lambda payload: read.append(payload) or decode(payload))
    again = Journal(tmp_path)
    assert again.number == 600
    assert len(read) <= 50


def test_a_decision_that_is_whole_and_none_of_a_routers_ends_the_start_with_its_place(tmp_path: Path) -> None:
    luck = random.Random(11)
    good, other = decision(0, luck), decision(1, luck)
    forged = msgspec.structs.replace(other, body=other.body.replace(b'"size":', b'"sizes":'))
    assert forged.body != other.body
    journal = Journal(tmp_path)
    journal.append([good, forged], {})
    journal.close()
    with pytest.raises(
        CorruptRecordError, match=r"decisions\.log: decision 1: expected one as a router writes it, found: "
    ):
        Journal(tmp_path)

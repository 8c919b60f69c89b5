"""One signal as one line of QuantConnect CSV."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sink_decisions import EPOCH_NS, body, decided

from strategy_runner.model.signal import SignalBody
from strategy_runner.sinks.quantconnect_row import csv_row, file_name, shortest
from strategy_runner.sinks.received_body import BodyRefused


def signal(**changes: object) -> SignalBody:
    plain: dict[str, object] = {"id": "ikenna:swing.AAPL@9f3c/1", "symbol": "AAPL", "action": "buy", "size": 10.0}
    plain |= {"strength": None, "cause": msgspec.structs.replace(body(0).cause, event_ns=EPOCH_NS + 123_456_789)}
    return msgspec.structs.replace(body(0), **(plain | changes))


def line(**changes: object) -> str:
    made = signal(**changes)
    row = csv_row(decided(made), made)
    return row.line(row.earliest_us)


def test_the_line_is_what_the_reader_expects() -> None:
    assert line() == "2023-11-14 22:13:20.123456,ikenna:swing.AAPL@9f3c/1,swing,AAPL,BUY,10,,1\n"
    assert line(action="sell", size=0.25, strength=0.75).endswith(",AAPL,SELL,0.25,,-0.75\n")


def test_a_whole_second_still_has_six_digits() -> None:
    assert line(cause=msgspec.structs.replace(body(0).cause, event_ns=EPOCH_NS)).startswith(
        "2023-11-14 22:13:20.000000,"
    )


@pytest.mark.parametrize(("closes", "side", "value"), [("closes:long", "SELL", "-1"), ("closes:short", "BUY", "1")])
def test_a_close_is_the_opposite_of_what_is_held(closes: str, side: str, value: str) -> None:
    assert line(action="close", reasons=("stop", closes)).endswith(f",{side},10,,{value}\n")


@pytest.mark.parametrize("strength", [None, 0.0, -0.0])
def test_the_value_is_never_zero(strength: float | None) -> None:
    assert line(strength=strength).endswith(",1\n")


def test_the_side_alone_signs_the_value() -> None:
    assert line(action="buy", strength=-0.5).endswith(",0.5\n")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"action": "close", "reasons": ()}, "closes:long or closes:short"),
        ({"action": "close", "reasons": ("closes:long", "late")}, "found 'late'"),
        ({"strategy": "swing,high"}, "strategy: expected text without comma"),
        ({"id": 'say "buy"'}, "signal_id: expected text without comma, quote"),
        ({"id": "two\nlines"}, "signal_id"),
        ({"id": ""}, "signal_id"),
        ({"symbol": "../AAPL"}, "symbol: expected"),
        ({"symbol": "AAPL\n"}, "symbol: expected"),
        ({"size": 0.0}, "size: expected a number > 0"),
        ({"size": -1.0}, "size: expected a number > 0"),
        ({"size": None}, "size: expected a number > 0, found None"),
        ({"cause": msgspec.structs.replace(body(0).cause, event_ns=-1)}, "event_ns"),
        ({"cause": msgspec.structs.replace(body(0).cause, event_ns=2**63)}, "event_ns"),
    ],
)
def test_what_the_format_cannot_say_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(BodyRefused, match=message):
        line(**changes)


@given(st.floats(min_value=5e-324, max_value=1.7e308))
def test_a_quantity_reads_back_exactly_and_has_no_exponent(number: float) -> None:
    text = shortest(number)
    assert float(text) == number
    assert set(text) <= set("0123456789.")


def test_a_quantity_is_as_short_as_a_person_would_write_it() -> None:
    assert [shortest(number) for number in (10.0, 0.1, 1.5e-7, 1e22)] == ["10", "0.1", "0.00000015", "1" + "0" * 22]


def test_a_file_name_has_one_dot() -> None:
    assert file_name("BRK.B") == "BRK_B.csv"

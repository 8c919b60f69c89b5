"""replay: a recorded period with the files as they are now, and what it would have changed."""

import json
from typing import Any

from end_to_end.harness import Firm, told
from evidence.recorded_run import CROSS, LISTENING, logged, signal_log

FILE = "clients/acme/client.toml"
WARM = """
from strategy_runner.strategies.interface import Inputs
from strategy_runner.strategies.moving_average_crossover import MovingAverageCrossover

class Warm(MovingAverageCrossover):
    inputs = Inputs(bars=True, warmup_bars=3)
"""


def differences(firm: Firm, *arguments: object) -> list[dict[str, Any]]:
    ran = firm.run("replay", *arguments, "--diff", "-o", "json")
    return [json.loads(line) for line in ran.lines]


def contents(firm: Firm) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes()
        for path in sorted((firm.root / "var").rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_unchanged_files_give_what_was_recorded_and_touch_nothing(recorded: Firm) -> None:
    before = contents(recorded)
    ran = recorded.run("replay", f"acme:{CROSS}", "--body")
    assert ran.lines == [signal.body.decode() for signal in logged(signal_log(recorded.home, CROSS))]
    assert differences(recorded, "acme") == []
    assert contents(recorded) == before


def test_changed_parameters_give_other_signals_and_the_difference_names_them(damaged: Firm) -> None:
    damaged.edit(FILE, "fast = 2, slow = 5", "fast = 2, slow = 7")
    recorded_bodies = [signal.body.decode() for signal in logged(signal_log(damaged.home, CROSS))]
    bodies = damaged.run("replay", f"acme:{CROSS}", "--body").lines
    assert bodies and bodies != recorded_bodies

    found = differences(damaged, "acme")
    assert {change["strategy"] for change in found} == {"cross"}
    new, gone = (sum(change["change"] == kind for change in found) for kind in ("new", "gone"))
    assert len(bodies) == len(recorded_bodies) + new - gone
    shown = damaged.run("replay", "acme:cross", "--diff").out
    assert "gone" in shown and f"acme:{CROSS}" in shown


def test_edited_code_is_what_is_run_and_nothing_of_it_is_kept(damaged: Firm) -> None:
    before = contents(damaged)
    damaged.edit("clients/acme/strategies/listener.py", "self._held >= self.params", "self._held > self.params")
    assert {change["strategy"] for change in differences(damaged, "acme")} == {"listener"}
    assert contents(damaged) == before


def test_a_changed_size_is_a_field_of_signals_that_stay(damaged: Firm) -> None:
    damaged.edit(FILE, "params = { fast", "size = 0.25\nparams = { fast")
    found = differences(damaged, f"acme:{CROSS}")
    assert len(found) == len(logged(signal_log(damaged.home, CROSS)))
    for change in found:
        assert change["change"] == "different"
        assert [(field["path"], field["derived"]) for field in change["fields"]] == [("size", "0.25")]


def test_a_period_begins_anew_and_shows_only_itself(recorded: Firm) -> None:
    rows = recorded.run("replay", f"acme:{LISTENING}", "-o", "json").objects()
    middle = rows[len(rows) // 2]["event_ns"]
    minute = f"2026-01-05T{middle // 3_600_000_000_000 % 24:02d}:{middle // 60_000_000_000 % 60:02d}:00Z"
    later = recorded.run("replay", f"acme:{LISTENING}", "--from", minute, "-o", "json").objects()
    earlier = recorded.run("replay", f"acme:{LISTENING}", "--to", minute, "-o", "json").objects()
    boundary_ns = middle // 60_000_000_000 * 60_000_000_000
    assert later and all(row["event_ns"] >= boundary_ns for row in later)
    assert later[0]["id"].endswith("/0")
    assert [row["id"] for row in earlier] == [row["id"] for row in rows if row["event_ns"] < boundary_ns]


def test_who_begins_cold_is_told(damaged: Firm) -> None:
    """The built-in strategies: they declare no bars to read before, and had none, while the help spoke of a warm-up."""
    damaged.write("clients/acme/strategies/warm.py", WARM)
    rows = damaged.run("replay", f"acme:{CROSS}", "-o", "json").objects()
    at = rows[len(rows) // 2]["event_ns"] // 1_000_000_000
    moment = f"2026-01-05T{at // 3600 % 24:02d}:{at // 60 % 60:02d}:{at % 60:02d}Z"
    cold = f"began cold at --from, with nothing of before: acme:{CROSS}"
    assert cold in damaged.run("replay", f"acme:{CROSS}", "--from", moment).err.splitlines()
    assert "cold" not in damaged.run("replay", f"acme:{CROSS}").err
    damaged.edit(FILE, 'strategy = "moving_average_crossover"', 'strategy = "warm"')
    assert "cold" not in damaged.run("replay", f"acme:{CROSS}", "--from", moment).err


def test_streams_that_the_tape_does_not_carry_are_named(damaged: Firm) -> None:
    damaged.edit(FILE, 'symbols = ["BTC-USD"]\ntimeframe = "10s"', 'symbols = ["BTC-USD"]\ntimeframe = "15s"')
    ran = damaged.run("replay", "acme", code=6)
    assert ran.out == "" and "BTC-USD/bar.15s" in ran.err and "backtest" in ran.err, told(ran)

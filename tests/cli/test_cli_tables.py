"""Tables as a person reads them: nothing wider than the terminal, nothing cut out of the middle of a value."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
from cli.clients import CROSSOVER, DOUBTFUL, KEYS
from cli.terminal import both, raw, shown
from end_to_end.harness import Firm, until

from strategy_runner.cli import output, positions, risk, trading
from strategy_runner.cli.table import Column, Table

CLIENT = "christian-and-sons"
NARROW, USUAL = 80, 120


@pytest.fixture(scope="module")
def running() -> Iterator[Firm]:
    with Firm() as firm:
        firm.write(f"clients/{CLIENT}/client.toml", CROSSOVER + DOUBTFUL + KEYS)
        firm.run("start", CLIENT)
        until(lambda: len(firm.bodies(CLIENT).splitlines()) > 3, "signals")
        yield firm


# as wide as the samples of this project write their names and sums
TRADING = """
routes = ["oms"]

[accounts]
ETH-USD = { venue = "binance", account = "christian-spot" }

[risk]
starting_cash = 9_000_000.0
max_daily_loss = 2_000_000.0
max_position_notional = 8_000_000.0

[[strategies]]
id = "crossover_eth"
strategy = "moving_average_crossover"
symbols = ["ETH-USD"]
timeframe = "10s"
params = { fast = 2, slow = 4 }
size = 5.0
stop_loss_fraction = 0.01
take_profit_fraction = 0.01
"""
# what a person needs of each on a narrow terminal: which process, what and how much
NEEDED = {
    "fills": (("fills", "christian"), "event time (UTC) worker side quantity price"),
    "orders": (("orders", "christian"), "worker leg side quantity state reason"),
    "positions": (("positions", "christian"), "worker quantity unrealised profit currency"),
    "accounts": (("accounts", "christian"), "client account cash equity currency"),
    "report": (("report", "christian"), "by name trades result profit currency"),
    "risk": (("risk", "christian"), "breaker scope state value limit left"),
    "parity": (("parity", "christian"), "worker result different lost doubled alien"),
}


@pytest.fixture(scope="module")
def traded() -> Iterator[Firm]:
    with Firm() as firm:
        firm.write("clients/christian/client.toml", TRADING)
        firm.run("start", "christian")
        until(lambda: len(firm.run("fills", "christian", "-o", "name").lines) > 4, "fills")
        yield firm


@pytest.mark.parametrize("name", NEEDED)
def test_a_narrow_terminal_shows_a_table_with_what_a_person_needs(traded: Firm, name: str) -> None:
    arguments, needed = NEEDED[name]
    lines = shown(traded, NARROW, *arguments)
    (head,) = [line for line in lines if line.split()[:1] == needed.split()[:1]][:1]
    titles = iter(head.split())
    assert all(word in titles for word in needed.split()), head  # in this order, others between them
    assert [line for line in lines if len(line) > NARROW and "\r" not in line] == []


COMMANDS = {
    "status": ("status",),
    "signals": ("signals", CLIENT),
    "plan": ("plan",),
    "show-config": ("show-config", CLIENT),
    "sql": ("sql", CLIENT, "FROM signals_by_day"),
    "wide sql": ("sql", CLIENT, "SELECT * FROM signals ORDER BY number LIMIT 1"),
    "help": ("--help",),
}
Screens = dict[tuple[str, int], list[str]]


@pytest.fixture(scope="module")
def screens(running: Firm) -> Screens:
    """What each command shows on a terminal of each width."""
    wanted = [(name, columns) for name in COMMANDS for columns in (NARROW, USUAL)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(wanted, pool.map(lambda one: shown(running, one[1], *COMMANDS[one[0]]), wanted), strict=True))


@pytest.mark.parametrize("columns", [NARROW, USUAL])
@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - {"wide sql"}))
def test_no_line_is_wider_than_the_terminal(screens: Screens, name: str, columns: int) -> None:
    lines = screens[name, columns]
    assert len(lines) >= 3
    assert [line for line in lines if len(line) > columns] == []
    assert not any("…" in line for line in lines)


def test_a_terminal_that_knows_no_colours_gets_none(running: Firm) -> None:
    assert "\x1b[" in raw(running, USUAL, "status")
    plain = raw(running, USUAL, "status", term="dumb")
    assert f"{CLIENT}:router" in plain and "\x1b" not in plain


def test_a_narrow_status_keeps_what_matters_and_a_usual_one_has_it_all(screens: Screens) -> None:
    narrow, usual = screens["status", NARROW], screens["status", USUAL]
    everything = [
        "name",
        "process",
        "state",
        "for",
        "pid",
        "MB",
        "lag",
        "ms",
        "seq",
        "signals",
        "refused",
        "last",
        "signal",
    ]
    assert usual[0].split() == everything
    assert narrow[0].split() == ["name", "process", "state", "for", "pid", "signals"]
    (worker,) = [line.split() for line in usual if line.startswith(f"{CLIENT}:cross.BTC-USD ")]
    assert worker[:3] == [f"{CLIENT}:cross.BTC-USD", "RUNNING", "trading"]


def test_signals_say_what_a_narrow_terminal_has_no_room_for(running: Firm) -> None:
    text, talk = both(running, NARROW, "signals", CLIENT, "-n", 2)
    assert "why" not in text.splitlines()[0].split()
    assert talk.startswith("no room for ") and ", why: a wider terminal or -o json shows all\n" in talk
    assert both(running, 200, "signals", CLIENT, "-n", 2)[1] == ""


def test_a_row_too_wide_for_the_terminal_stands_one_value_a_line_and_whole(running: Firm, screens: Screens) -> None:
    values = dict(line.split(None, 1) for line in screens["wide sql", NARROW] if "  " in line)
    body = running.bodies(CLIENT).splitlines()[0]
    assert values["body"] == body and values["number"] == "0"


def test_a_pipe_gets_whole_lines_however_wide(running: Firm) -> None:
    lines = running.run("sql", CLIENT, "SELECT body, number FROM signals ORDER BY number LIMIT 1").lines
    assert lines[1].split("  ")[0] == running.bodies(CLIENT).splitlines()[0]


def test_a_column_that_folds_gives_the_others_their_room() -> None:
    words = "a reason of many words that does not fit beside the rest"
    table = Table((Column("name"), Column("reason", folds=True)), [["acme:router", words]])
    lines = table.lines(40)
    assert max(map(len, lines)) <= 40 and len(lines) > 2
    assert " ".join(line[13:] for line in lines[1:]).split() == words.split()


def test_a_name_that_folds_is_parted_where_its_parts_end() -> None:
    names = ["acme:revert.SOL-USD", "christian-and-sons:crossover_eth.ETH-USD", "clients/acme/client.toml"]
    names += ["a" * 18, "b_c"]
    table = Table((Column("worker", folds=True), Column("side")), [[name, "buy"] for name in names])
    lines = table.lines(24)
    assert [line.split()[0] for line in lines[1:]] == [
        *("acme:revert.", "SOL-USD"),
        *("christian-and-", "sons:", "crossover_eth.", "ETH-USD"),
        *("clients/acme/", "client.toml"),
        "a" * 18,
        "b_c",
    ]
    assert max(map(len, lines)) <= 24


def test_spare_columns_go_in_their_order_until_the_rest_fits() -> None:
    columns = (Column("a"), Column("b", spare=1), Column("c", spare=2), Column("d", right=True))
    table = Table(columns, [["1111", "2222", "3333", "4"]])
    assert table.fitted(100) == (table, [])
    fitted, left_out = table.fitted(13)
    assert (left_out, fitted.lines(13)) == (["c"], ["a     b     d", "1111  2222  4"])
    fitted, left_out = table.fitted(12)
    assert (left_out, fitted.lines(12)) == (["c", "b"], ["a     d", "1111  4"])


def test_what_fits_in_no_table_is_listed_with_its_spare_columns_too() -> None:
    table = Table((Column("worker"), Column("fees", spare=1), Column("state")), [["1" * 30, "2", "3" * 30]])
    fitted, left_out = table.fitted(40)
    assert left_out == []
    assert fitted.lines(40) == ["row 1", f"worker  {'1' * 30}", "fees    2", f"state   {'3' * 30}"]


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        ("132.04000", "132.04"),
        ("98149.0", "98149"),
        ("90000", "90000"),
        ("0.000012340", "0.00001234"),
        ("1E+9", "1000000000"),
    ],
)
def test_a_price_has_no_zeros_at_its_end(number: str, shown: str) -> None:
    assert positions._short(Decimal(number)) == shown


@pytest.mark.parametrize(
    ("number", "money", "plain"),
    [
        ("1234.5678", "1,234.57", "1234.5678"),
        ("-0.005", "0.00", "-0.005"),
        ("-0.006", "-0.01", "-0.006"),
        ("1E-9", "0.00", "0"),
        ("-1E-9", "0.00", "0"),
        ("-0.000", "0.00", "0"),
        ("100", "100.00", "100"),
        ("7E+26", "700" + ",000" * 8 + ".00", "7" + "0" * 26),
    ],
)
def test_a_number_of_any_size_is_written_out(number: str, money: str, plain: str) -> None:
    amount = Decimal(number)
    assert output.money(amount) == money
    assert trading._plain(amount) == risk._plain(amount).replace(",", "") == plain

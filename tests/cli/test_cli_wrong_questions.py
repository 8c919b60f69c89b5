"""A question that asks for what does not exist is refused: an empty answer would pass for one about something that does."""

from collections.abc import Iterator

import pytest
from cli.clients import CROSSOVER
from end_to_end.harness import Firm, assert_one_message, until

from strategy_runner.router.sql import LIMIT_ROWS_MAX

USAGE = 2


@pytest.fixture(scope="module")
def firm() -> Iterator[Firm]:
    """A client that trades on the mock market."""
    with Firm() as firm:
        firm.write("clients/acme/client.toml", CROSSOVER.replace('["quantconnect"]', '["oms"]'))
        firm.run("start", "acme")
        until(lambda: firm.run("signals", "acme", "-o", "name").lines, "signals")
        yield firm


QUESTIONS = {
    ("orders", "acme:nobody"): ["acme:nobody", "expected a strategy or worker of acme"],
    ("fills", "acme:nobody"): ["acme:nobody", "expected a strategy or worker of acme"],
    ("positions", "acme:nobody"): ["acme:nobody", "expected a strategy or worker of acme"],
    ("report", "acme:cross:NONE"): ["acme:cross:NONE", "expected a strategy or worker of acme"],
    **{
        (verb, "acme", "--mode", "foo"): ["'--mode'", "'foo' is not one of 'mock', 'live', 'simulation', 'historical'"]
        for verb in ("signals", "orders", "fills", "report", "positions", "accounts")
    },
    ("signals", "acme", "--mode", "../mock"): ["'--mode'", "is not one of"],
    **{
        (verb, "acme", "--mode", "live"): ["acme: expected a live run, found none at"]
        for verb in ("signals", "orders", "fills", "report", "positions", "accounts")
    },
    ("positions", "all", "--mode", "live"): ["all: expected a live run of some client, found none"],
    ("sql", "acme", "SELECT 1", "--limit", LIMIT_ROWS_MAX + 1): ["'--limit'", "100000"],
    ("sql", "acme", "SELECT 1", "--limit", "9" * 20): ["'--limit'", "100000"],
    ("audit", "verify", "acme", "--pinned", "²:" + "a" * 64): ["--pinned: expected N:HASH"],
    ("audit", "verify", "acme", "--pinned", "9" * 5_000 + ":" + "a" * 64): ["--pinned: expected N:HASH"],
    ("export", "/nonexistent", "--first", "10", "--last", "5"): ["--first 10 --last 5", "found none there"],
    ("export", "/nonexistent", "--first", "9" * 18): ["found none there"],
    ("replay", "acme", "--from", "2100-01-01"): ["expected records in the period asked for", "it holds 2026-01-05 "],
    ("status", "--home", "/etc/passwd"): [
        "/etc/passwd: expected a folder with clients/, configs/ and var/, found a file"
    ],
    ("export", "/nonexistent", "--mode", "foo"): ["'--mode'", "is not one of"],
}


def test_a_question_about_what_does_not_exist_is_refused(firm: Firm) -> None:
    for ran, words in zip(firm.run_all(*QUESTIONS), QUESTIONS.values(), strict=True):
        assert_one_message(ran, USAGE, *words)


def test_accounts_of_a_home_in_which_nobody_has_run_say_so() -> None:
    with Firm() as fresh:
        assert fresh.run("accounts", "all").err == "no client has run yet\n"


def test_an_export_says_which_records_there_were(firm: Firm) -> None:
    ran = firm.run("export", firm.root / "out", "--last", "9" * 11)
    last = int(ran.err.split()[-1])
    assert ran.err.startswith("exported seq 0 to ")
    assert last < 10**9


def test_columns_of_one_name_are_all_answered(firm: Firm) -> None:
    ran = firm.run("sql", "acme", "SELECT 1 AS a, 2 AS a, 3 AS a_2, 4 AS a", "-o", "json")
    assert ran.json() == {"a": 1, "a_3": 2, "a_2": 3, "a_4": 4}


def test_an_answer_that_was_cut_says_so(firm: Firm) -> None:
    ran = firm.run("sql", "acme", "SELECT * FROM range(200000)", "--limit", LIMIT_ROWS_MAX, "-o", "name")
    assert len(ran.lines) == LIMIT_ROWS_MAX
    assert ran.err.startswith(f"the first {LIMIT_ROWS_MAX} rows")

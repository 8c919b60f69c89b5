"""SQL through the sink: it reads, it reads nothing else, and it ends in time."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sink_decisions import CLIENT, log_of

from strategy_runner.errors import TimeoutExpiredError, UsageError
from strategy_runner.sinks.duckdb_sink import DuckDbSink


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[DuckDbSink]:
    opened = DuckDbSink(tmp_path / "client.duckdb", CLIENT, lambda letter: None)
    opened.write(log_of(20))
    yield opened
    opened.close()


def test_it_gives_names_and_at_most_so_many_rows(sink: DuckDbSink) -> None:
    names, rows = sink.query("SELECT number, symbol FROM signals ORDER BY number", 2)
    assert names == ["number", "symbol"]
    assert rows == [(0, "BTC-USD"), (1, "BTC-USD")]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT repeat('x', 1000000) AS a FROM range(1000)",
        "SELECT repeat('x', 130000000) AS a",
        "SELECT {'a': [repeat('x', 7_000_000)]} AS a FROM range(30)",
        "SELECT repeat('x', 10000) || i AS a FROM range(20000) t(i)",
    ],
)
def test_an_answer_that_would_take_a_routers_memory_is_refused(sql: str, sink: DuckDbSink) -> None:
    with pytest.raises(
        UsageError, match=r"^sql: (expected an answer of at most 128 MB, found more; ask|Out of Memory)"
    ):
        sink.query(sql, 100_000)
    assert sink.query("SELECT count(*) FROM signals", 1)[1] == [(20,)]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT list(i) FROM range(600000) t(i)",
        "SELECT 1, map_from_entries(list((i, i))) FROM range(600000) t(i); -- of all;",
        "SELECT {'a': list(repeat('x', 100) || i)} FROM range(90000) t(i)",
    ],
)
def test_one_value_of_more_elements_than_a_router_has_memory_for_is_refused_by_duckdb_itself(
    sql: str, sink: DuckDbSink
) -> None:
    with pytest.raises(
        UsageError, match=r"expected each list, struct or map to have at most 500,000 elements and 8 MB"
    ):
        sink.query(sql, 10)


def test_lists_structs_and_maps_are_answered_under_their_names_and_in_their_order(sink: DuckDbSink) -> None:
    names, rows = sink.query(
        "SELECT 'é;' AS a, i AS a, [i] AS l, {'x': i} AS s FROM range(9) t(i) ORDER BY i DESC; -- all;", 2
    )
    assert names == ["a", "a", "l", "s"]
    assert rows == [("é;", 8, [8], {"x": 8}), ("é;", 7, [7], {"x": 7})]


def test_as_many_rows_as_an_answer_may_have_are_answered_whole(sink: DuckDbSink) -> None:
    names, rows = sink.query("SELECT i, repeat('x', 1000) FROM range(100010) t(i)", 100_000)
    assert [row[0] for row in rows] == [*range(100_000)]
    assert {len(row[1]) for row in rows} == {1000} and len(names) == 2


@pytest.mark.parametrize("sql", ["DESCRIBE signals", "SHOW TABLES", "EXPLAIN SELECT 1", "WITH a AS (SELECT 1) FROM a"])
def test_it_answers_every_kind_of_reading(sql: str, sink: DuckDbSink) -> None:
    names, rows = sink.query(sql, 100)
    assert names
    assert rows


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO watermark VALUES (99)",
        "DELETE FROM signals",
        "DROP TABLE signals",
        "CREATE TABLE mine (a INTEGER)",
        "WITH a AS (INSERT INTO watermark VALUES (99) RETURNING next_number) SELECT * FROM a",
        "EXPLAIN ANALYZE INSERT INTO watermark VALUES (99)",
        "BEGIN",
        "COMMIT",
        "CHECKPOINT",
        "SET lock_configuration = false",
        "SET enable_external_access = true",
        "PRAGMA database_size",
        "CALL pragma_version()",
        "LOAD httpfs",
        "SELECT 1; DELETE FROM signals",
        "SELECT 1; SELECT 2",
        "",
        "SELEC 1",
        "SELECT * FROM nowhere",
    ],
)
def test_it_refuses_what_does_more_than_read_or_is_no_question(sql: str, sink: DuckDbSink) -> None:
    with pytest.raises(UsageError, match=r"^sql: "):
        sink.query(sql, 10)
    assert sink.query("SELECT max(next_number) FROM watermark", 1)[1] == [(20,)]
    assert sink.query("SELECT count(*) FROM signals", 1)[1] == [(20,)]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('{other}')",
        "SELECT * FROM read_text('{other}')",
        "SELECT * FROM '{other}'",
        "SELECT * FROM glob('{folder}/*')",
        "ATTACH '{folder}/new.duckdb'",
        "COPY signals TO '{folder}/stolen.csv'",
        "EXPORT DATABASE '{folder}/stolen'",
        "SELECT * FROM enable_logging('QueryLog', storage = 'file', storage_path = '{folder}/log')",
    ],
)
def test_it_touches_no_other_file(sql: str, sink: DuckDbSink, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("secret\n1\n")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UsageError):
        sink.query(sql.format(other=other, folder=tmp_path), 1)
    assert sorted(tmp_path.iterdir()) == before


def test_a_question_without_end_is_interrupted_and_the_next_one_answered(sink: DuckDbSink) -> None:
    endless = "SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE (a.range * b.range) % 7 = 3"
    with pytest.raises(TimeoutExpiredError, match=r"within 0\.2 s"):
        sink.query(endless, 1, timeout_s=0.2)
    assert sink.query("SELECT 1", 1)[1] == [(1,)]
    sink.write(log_of(1, start=20))
    assert sink.cursor() == 21


@pytest.mark.parametrize(
    "wrong", ["SELECT nothing FROM signals", "SELECT n\n  FROM nowhere", "SELECT sum(symbol) FROM signals"]
)
def test_a_mistake_is_told_at_its_place_in_what_was_asked(sink: DuckDbSink, wrong: str) -> None:
    with pytest.raises(UsageError) as told:
        sink.query(wrong, 1)
    line, caret = str(told.value).splitlines()[-2:]
    number, _, text = line.removeprefix("LINE ").partition(": ")
    assert text == wrong.splitlines()[int(number) - 1]
    assert text[caret.index("^") - len(f"LINE {number}: ") :].startswith(("nothing", "nowhere", "sum"))
    assert sink.query("SELECT 1", 1)[1] == [(1,)]

"""How fast a sink takes a large batch: printed for the reader of `pytest -s`, not judged; the machine may be busy."""

import time
from pathlib import Path

import pytest
from sink_decisions import log_of, open_sink

BATCH = 10_000
BATCHES = 3


@pytest.mark.parametrize("kind", ["duckdb", "quantconnect"])
def test_a_sink_takes_ten_thousand_decisions_at_once(kind: str, tmp_path: Path) -> None:
    sink = open_sink(kind, tmp_path, lambda letter: None)
    decisions = log_of(BATCH * BATCHES)
    assert sink.cursor() == 0
    for batch in range(BATCHES):
        started = time.perf_counter()
        sink.write(decisions[batch * BATCH : (batch + 1) * BATCH])
        print(f"{kind}: {BATCH / (time.perf_counter() - started):,.0f} decisions/s")
    assert sink.cursor() == BATCH * BATCHES
    sink.close()

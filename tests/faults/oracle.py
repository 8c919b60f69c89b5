"""The oracle: the tape run again offline, in one process, against everything that a run under faults left behind.

For each worker: what it must have signalled, by number and byte. For each client: its decision log and each of its sinks.
Lost is expected and not there, doubled there more than once, alien there and not expected; other bytes under an expected
number are lost and alien both.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import duckdb
import msgspec
import numpy as np
from faults.home import Stuck
from faults.order_oracle import Books, decisions_of, judge_orders
from faults.verdict import Verdict

from strategy_runner.config.spec import RouterSpec, WorkerSpec
from strategy_runner.history.parity import lives
from strategy_runner.history.tape_run import TapeRun
from strategy_runner.model.decision import Decision
from strategy_runner.model.record import Kind
from strategy_runner.model.signal import decode_body, digest
from strategy_runner.sinks.interface import DeadLetter
from strategy_runner.sinks.quantconnect_row import csv_row
from strategy_runner.tape.logs import read_log
from strategy_runner.tape.reader import TapeReader
from strategy_runner.tape.status import read_status
from strategy_runner.worker.outbox import decode_logged


def judge(workers: Iterable[WorkerSpec], routers: Iterable[RouterSpec], oms: Path) -> Verdict:
    """Of a home that was stopped cleanly with everything decided and delivered. `oms` is where the books of orders lie."""
    verdict, expected = Verdict(), defaultdict[str, dict[str, bytes]](dict)
    workers = list(workers)
    _judge_tape(verdict, Path(workers[0].market.tape))
    for spec in workers:
        expected[spec.client].update(derived_of(spec))
    for router in routers:
        wanted = expected[router.client]
        verdict.signals += len(wanted)
        _judge_logs(verdict, router, wanted)
        decisions = decisions_of(router)
        _judge_decisions(verdict, router, wanted, decisions)
        _judge_duckdb(verdict, router, decisions)
        if "quantconnect" in router.routes:
            _judge_quantconnect(verdict, router, decisions)
        if router.oms is not None:
            judge_orders(verdict, Books(router, oms / router.client, decisions))
    return verdict


def derived_of(spec: WorkerSpec, *, to_the_end: bool = True) -> dict[str, bytes]:
    """The bodies of all that a worker must have signalled, by id, from each of its beginnings on. `to_the_end` asks that it
    has read the whole tape."""
    folder, tape = Path(spec.folder), Path(spec.market.tape)
    status = read_status(folder / "status")
    end = TapeReader(tape).head.count
    if to_the_end and (status is None or status.position != end):
        raise Stuck(f"{folder}: expected to have read to {end}, found {status}")
    found: dict[str, bytes] = {}
    stretches, _ = lives(folder, 0, end)
    for life in stretches:
        for derived in TapeRun(spec, tape, life.beginning).run(end):
            if life.first_n <= derived.n < life.end_n:
                found[decode_body(derived.body).id] = derived.body
    return found


# -- the places --------------------------------------------------------------------------------------------------------


def _judge_tape(verdict: Verdict, tape: Path) -> None:
    """Prices and sizes of trades and quotes are numbers of a market, in each stream time does not go back, and no feed's records
    stand behind those of a later one."""
    reader = TapeReader(tape)
    last: dict[int, int] = {}
    epoch = 0
    for first, records in reader.arrays(0, reader.head.count):
        if (np.diff(records["epoch"].astype(int)) < 0).any() or records["epoch"][0] < epoch:
            verdict.note(f"{tape}: expected epochs that do not go back, from seq {first} on")
        epoch = records["epoch"][-1]
        raw = records[np.isin(records["kind"], (Kind.TRADE, Kind.QUOTE))]
        values = raw["v"][:, :2]
        if not (np.isfinite(values).all() and (values > 0).all()):
            verdict.note(f"{tape}: expected trades and quotes of positive numbers, found others from seq {first} on")
        for stream in np.unique(raw["stream"]):
            times = raw["event_ns"][raw["stream"] == stream]
            if (np.diff(times) < 0).any() or times[0] < last.get(int(stream), 0):
                verdict.note(f"{tape}: expected times of stream {stream} that do not go back, from seq {first} on")
            last[int(stream)] = int(times[-1])
    reader.close()


def _judge_logs(verdict: Verdict, router: RouterSpec, expected: dict[str, bytes]) -> None:
    def logged() -> Iterator[tuple[str, bytes]]:
        for worker in router.workers:
            for number, payload in enumerate(read_log(Path(router.workers_folder) / worker / "signals.log")):
                signal = decode_logged(payload)
                if digest(signal.body) != signal.digest:
                    verdict.note(f"{worker}: signal {number} of the log: expected bytes that match their digest")
                yield decode_body(signal.body).id, signal.body

    verdict.compare(f"{router.client} signal logs", expected, logged())


def _judge_decisions(
    verdict: Verdict, router: RouterSpec, expected: dict[str, bytes], decisions: list[Decision]
) -> None:
    where = f"{router.client} decision log"
    verdict.compare(where, expected, ((decision.signal_id, decision.body) for decision in decisions))
    for number, decision in enumerate(decisions):
        if decision.number != number:
            verdict.note(f"{where}: expected decision {number}, found {decision.number}")
            break
    following: Counter[str] = Counter()
    for decision in decisions:
        worker, n = decision.signal_id.rsplit("/", 1)
        if int(n) != following[worker]:
            verdict.note(f"{where}: {worker}: expected n {following[worker]}, found {n}")
            break
        following[worker] += 1


def _judge_duckdb(verdict: Verdict, router: RouterSpec, decisions: list[Decision]) -> None:
    with duckdb.connect(router.duckdb, read_only=True) as database:
        rows = database.execute(
            "SELECT signal_id, number, verdict, reason, body FROM signals ORDER BY number"
        ).fetchall()
    expected = {d.signal_id: _row(d.number, d.verdict, d.reason, d.body.decode()) for d in decisions}
    verdict.compare(f"{router.client} duckdb", expected, ((row[0], _row(*row[1:])) for row in rows))


def _judge_quantconnect(verdict: Verdict, router: RouterSpec, decisions: list[Decision]) -> None:
    """Each accepted signal one line, all but its time, which may be moved to let times increase; times do increase."""
    where, letters = f"{router.client} quantconnect", _dead_letters(router, "quantconnect")
    expected = {
        d.signal_id: csv_row(d, decode_body(d.body)).rest.encode()
        for d in decisions
        if d.verdict == "accepted" and d.signal_id not in letters
    }
    found: list[tuple[str, bytes]] = []
    for path in sorted(Path(router.quantconnect.folder).rglob("*.csv")):
        text = path.read_text()
        if not text.endswith("\n"):
            verdict.note(f"{where}: {path.name}: expected whole lines")
        times = []
        for line in text.splitlines()[1:]:
            time, _, rest = line.partition(",")
            times.append(time)
            found.append((rest.partition(",")[0], rest.encode()))
        if times != sorted(set(times)):
            verdict.note(f"{where}: {path.name}: expected times that increase")
    verdict.compare(where, expected, found)


def _dead_letters(router: RouterSpec, sink: str) -> set[str]:
    path = Path(router.folder) / "dead_letters.log"
    letters = [msgspec.msgpack.decode(raw, type=DeadLetter) for raw in read_log(path)] if path.exists() else []
    return {letter.signal_id for letter in letters if letter.sink == sink}


def _row(number: int, verdict: str, reason: str, body: str) -> bytes:
    return f"{number} {verdict} {reason} {body}".encode()

"""A home's tape run again: SHA-256 over all that its workers must have signalled, and over their states on the way there.

python -m faults.again HOME
"""

import hashlib
import pickle
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from faults.oracle import derived_of

from strategy_runner.config.home import Home
from strategy_runner.config.spec import WorkerSpec
from strategy_runner.history.parity import lives
from strategy_runner.history.tape_run import TapeRun
from strategy_runner.supervision.written import as_written
from strategy_runner.tape.reader import TapeReader

STATE_RECORDS = 1_000


def sha256_of(signals: Iterable[tuple[str, bytes]]) -> str:
    hashed = hashlib.sha256()
    for signal_id, body in sorted(signals):
        hashed.update(signal_id.encode() + b"\n" + body + b"\n")
    return hashed.hexdigest()


def states_of(spec: WorkerSpec, seqs: Iterable[int]) -> Iterator[tuple[int, str]]:
    """(seq, state in words) of the newest life of a worker, as it stands before each seq."""
    tape = Path(spec.market.tape)
    stretches, _ = lives(Path(spec.folder), 0, TapeReader(tape).head.count)
    run = TapeRun(spec, tape, stretches[-1].beginning)
    for seq in sorted(seqs):
        if seq > run.seq:
            for _ in run.run(seq):
                pass
            yield seq, state_in_words(run._machine.state())


def state_in_words(state: bytes) -> str:
    return str(_plain(pickle.loads(state)))


def _plain(value: Any) -> Any:
    """The same words for equal values, whatever objects hold them."""
    if isinstance(value, msgspec.Struct):
        return _plain(msgspec.structs.asdict(value))
    if isinstance(value, Mapping):
        return sorted((str(key), _plain(held)) for key, held in value.items())
    if isinstance(value, set | frozenset):
        return sorted(map(str, map(_plain, value)))
    if isinstance(value, str | bytes | int | float | bool | None):
        return repr(value)
    if isinstance(value, Iterable):
        return [_plain(held) for held in value]
    names = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    return _plain(vars(value) if hasattr(value, "__dict__") else {name: getattr(value, name) for name in names})


def main(root: Path) -> None:
    specs = [p.spec for p in as_written(Home(root)).processes if isinstance(p.spec, WorkerSpec)]
    print(sha256_of(signal for spec in specs for signal in derived_of(spec).items()))
    states = hashlib.sha256()
    for spec in specs:
        end = TapeReader(Path(spec.market.tape)).head.count
        for seq, words in states_of(spec, range(STATE_RECORDS, end, STATE_RECORDS)):
            states.update(f"{spec.key.name} {seq} {words}\n".encode())
    print(states.hexdigest())


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""A home's tape run again: SHA-256 over all that its workers must have signalled, worker by worker.

python -m faults.again HOME
"""

import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path

from faults.oracle import derived_of

from strategy_runner.config.home import Home
from strategy_runner.config.spec import WorkerSpec
from strategy_runner.supervision.steering import as_written


def sha256_of(signals: Iterable[tuple[str, bytes]]) -> str:
    hashed = hashlib.sha256()
    for signal_id, body in sorted(signals):
        hashed.update(signal_id.encode() + b"\n" + body + b"\n")
    return hashed.hexdigest()


def main(root: Path) -> None:
    specs = [p.spec for p in as_written(Home(root)).processes if isinstance(p.spec, WorkerSpec)]
    print(sha256_of(signal for spec in specs for signal in derived_of(spec).items()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

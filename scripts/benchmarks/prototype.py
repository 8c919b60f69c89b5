"""The prototype behind the design's figures, run beside ours where its scripts are: the same machine, the same hour.

They are not part of this project: STRATEGY_RUNNER_PROTOTYPES names their folder. Its workers follow the same fifty symbols and do
less than ours: a sum for each record, no crc, no signal, no snapshot, no router.
"""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from benchmarks.common import talk

WORKERS_MAX = 4_000  # it needs four descriptors for each
_FOLDER = Path(os.environ.get("STRATEGY_RUNNER_PROTOTYPES", "../shared/prototypes"))
_WORKERS_MIN = 100  # fewer are never late
_PATIENCE_S = 900.0
_READY = re.compile(r"workers ready in ([\d.]+) s")
_LAG = re.compile(r"^(\d+)/s: .* mean lag ([\d.]+) ms", re.MULTILINE)
_STOPPED = re.compile(r"all stopped in ([\d.]+) s")


class Prototype(msgspec.Struct, frozen=True):
    """Of one run: seconds, and the mean lag in ms by events a second."""

    workers: int
    ready_s: float
    lag_ms: dict[int, float]
    stopped_s: float


def measure(workers: int) -> Prototype | None:
    """None where it is not there or has failed, which is told."""
    script = (_FOLDER / "fleet.py").absolute()
    if workers < _WORKERS_MIN:
        return None
    if not script.exists():
        talk(f"  no prototype in {_FOLDER}; STRATEGY_RUNNER_PROTOTYPES names its folder")
        return None
    talk(f"  prototype of {workers} workers ...")
    shown = _run([sys.executable, "-B", str(script), str(workers)])
    ready, stopped = _READY.search(shown), _STOPPED.search(shown)
    if ready is None or stopped is None:
        talk(f"  the prototype did not come to its end: {shown[-500:]}")
        return None
    lag_ms = {int(rate): float(lag) for rate, lag in _LAG.findall(shown)}
    return Prototype(workers, float(ready[1]), lag_ms, float(stopped[1]))


def _run(words: list[str]) -> str:
    """What it printed. It leaves its folders behind."""
    with TemporaryDirectory(prefix="sr") as folder:
        environment = {**os.environ, "TMPDIR": folder}
        environment.pop("PYTHONPATH", None)
        process = subprocess.Popen(
            words,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            start_new_session=True,
        )
        try:
            return process.communicate(timeout=_PATIENCE_S)[0]
        except BaseException as error:
            os.killpg(process.pid, signal.SIGTERM)  # its daemon ends its workers
            process.communicate()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            return f"{_PATIENCE_S:g} s were not enough"

"""The rehearsal: before its first fork the daemon plays one worker's life, so that every child is born with warm code.

CPython 3.11 writes into code objects while it specialises them, builds decoders and compiles patterns at first use; done in
the parent those pages are shared by all children, done in a child they are its own. Nothing of the play is left: the folder
is removed, the ZeroMQ context is terminated and with it its threads.
"""

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from strategy_runner.assembly import configure_logging, make_follower, run_worker
from strategy_runner.assembly import main as run_program
from strategy_runner.bus.doorbell import StreamDoorbell, topic_of
from strategy_runner.config.home import Home
from strategy_runner.config.spec import (
    LimitsSpec,
    MarketSpec,
    ModelProviderSpec,
    ModelSpec,
    ProtectionSpec,
    WorkerSpec,
    read_spec,
    write_spec,
)
from strategy_runner.loop import StopFlag
from strategy_runner.model.stream import Stream
from strategy_runner.strategies.client_code import strategies_in
from strategy_runner.strategies.generation import versions
from strategy_runner.strategies.kept_code import folder_digest, keep
from strategy_runner.tape.lock import FolderLock
from strategy_runner.tape.status import State, Status, StatusFile, read_status
from strategy_runner.tape.writer import TapeWriter
from strategy_runner.worker.confinement import give_way

BARS = 20
RUNG = 3  # of which on trial: each is a wait for another process
TRIAL_WAIT_S = 5.0  # for all of a trial: the first births wait for it
_OWN_CODE = """
from strategy_runner.model.event import Bar
from strategy_runner.strategies.interface import Inputs, Params, Strategy


class OwnParams(Params, frozen=True):
    word: str = ""


class Own(Strategy):
    Params = OwnParams
    inputs = Inputs(bars=True)

    def on_bar(self, bar: Bar) -> None:
        self.buy(self.params.word)
"""
_CAST = {
    "moving_average_crossover": {"fast": 2, "slow": 3},
    "swing_high": {"lookback_bars": 2},
    "momentum_rider": {},
    "mean_reversion": {},
    "swing_low": {},
}


def rehearse(lives: int = 2) -> None:
    """Plays a worker of each of some built-in strategies, so many times: start, records, signals, snapshot, stop."""
    configure_logging("error")
    with tempfile.TemporaryDirectory(prefix="sr") as name:
        folder = Path(name)
        doorbell = StreamDoorbell(f"ipc://{folder}/doorbell")
        writer = TapeWriter(folder / "tape", segment_records=1024)
        writer.head.beat_ms = 1
        for strategy, params in _CAST.items():
            spec = _spec(folder, strategy, params)
            write_spec(folder / "spec.json", spec)
            for _ in range(lives):
                _play(folder, writer, doorbell)
        writer.close()
        doorbell.close()
        _import_own_code(folder)
    configure_logging("info")  # what nearly every worker is told; it has nothing to set then


@contextmanager
def worker_on_trial(bear: Callable[[str, Path], int], *, own_code: bool) -> Iterator[int]:
    """The process id of a worker that has started, read some bars and signalled. It is killed afterwards.

    With `own_code` its strategy is a client's own and not a built-in one. `bear` makes it, a child of this process that runs
    `main`, from a spec file and the path of its log. Raises TimeoutError if it does not come.
    """
    with tempfile.TemporaryDirectory(prefix="sr") as name:
        folder = Path(name)
        if own_code:
            spec = _spec(folder, "own", {}, code=str(_keep_own_code(folder)))
        else:
            spec = _spec(folder, *next(iter(_CAST.items())))
        spec = msgspec.structs.replace(spec, from_start=False)
        write_spec(folder / "spec.json", spec)
        doorbell = StreamDoorbell(f"ipc://{folder}/doorbell")
        writer = TapeWriter(folder / "tape", segment_records=1024)
        streams = [writer.stream_id(Stream.parse(stream)) for stream in spec.streams]
        writer.make_durable()
        status = Path(spec.folder) / "status"
        deadline = time.monotonic() + TRIAL_WAIT_S
        pid = bear(str(folder / "spec.json"), folder / "log")
        try:
            _wait_until(deadline, status, lambda seen: seen.state is State.FOLLOWING)
            for i in range(BARS):
                _append_bar(writer, streams, i)
                if i < BARS - RUNG:
                    continue  # it reads these at once, behind the ring of the first of the others
                doorbell.ring(topic_of(spec.streams[0]), writer.seq)
                _wait_until(deadline, status, lambda seen: seen.position >= writer.seq)
            yield pid
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            writer.close()
            doorbell.close()


def main(arguments: Sequence[str]) -> int:
    """The worker on trial, as any other but that it gives way to nobody: on a busy host it would come seconds later, and all the
    others are born after it."""
    return run_program(arguments, {WorkerSpec: _run_at_once})


def _run_at_once(spec: WorkerSpec, stopping: StopFlag) -> int:
    give_way(0)
    return run_worker(spec, stopping)


def _wait_until(deadline: float, path: Path, has_come: Callable[[Status], bool]) -> None:
    while not ((seen := read_status(path)) and has_come(seen)):
        if time.monotonic() > deadline:
            raise TimeoutError(f"worker on trial: expected it to go on within {TRIAL_WAIT_S:g} s, found {seen}")
        time.sleep(0.001)


def _append_bar(writer: TapeWriter, streams: Sequence[int], i: int) -> None:
    """The i-th bar, and a prediction of each model."""
    close = 100.0 + (i * 7 % 11) - i % 5
    at_ns = (writer.seq + 1) * 60_000_000_000
    writer.append(streams[0], at_ns, close, close + 1, close - 1, close, 1.0)
    for stream in streams[1:]:
        writer.append(stream, at_ns, -0.9, 0.9, 0.0, 0.0, 0.0)
    writer.publish()


def _play(folder: Path, writer: TapeWriter, doorbell: StreamDoorbell) -> None:
    spec = read_spec(folder / "spec.json")
    assert isinstance(spec, WorkerSpec)
    lock = FolderLock(Path(spec.folder))
    status = StatusFile(Path(spec.folder) / "status")
    follower = make_follower(spec, status)
    streams = [writer.stream_id(Stream.parse(stream)) for stream in spec.streams]
    for i in range(BARS):
        _append_bar(writer, streams, i)
        if i % 5:
            doorbell.ring(topic_of(spec.streams[0]), writer.seq)
        else:  # it is noticed by looking
            doorbell.hear()
        follower.wait()
        status.beat()
        follower.turn()
    writer.make_durable()
    follower.stop()
    follower.close()
    lock.release()


def _import_own_code(folder: Path) -> None:
    """A client's own strategy, as a worker imports it."""
    kept = _keep_own_code(folder)
    before = set(sys.modules)
    for _ in range(2):
        strategies_in(kept)
        for name in sys.modules.keys() - before:
            del sys.modules[name]
    sys.path_importer_cache.pop(str(kept.parent), None)


def _keep_own_code(folder: Path) -> Path:
    """The file that a worker imports."""
    home = Home(folder)
    strategies = home.client_strategies("rehearsal")
    strategies.mkdir(parents=True)
    (strategies / "own.py").write_text(_OWN_CODE)
    kept = home.kept_strategies("rehearsal", folder_digest(strategies))
    keep(strategies, kept)
    return kept / "own.py"


def _spec(folder: Path, strategy: str, params: dict[str, int], code: str = "") -> WorkerSpec:
    models = (
        (ModelSpec(id="m", confidence_threshold=0.5, lookback_window=5, weight=1.0),) if "swing" in strategy else ()
    )
    return WorkerSpec(
        client="rehearsal",
        strategy=strategy,
        symbol="R",
        strategy_type=strategy,
        code=code,
        params=params,
        timeframe="1m",
        models=models,
        extra_symbols=(),
        venue="none",
        account="none",
        size=1.0,
        protection=ProtectionSpec(stop_loss_fraction=0.01, take_profit_fraction=0.02),
        streams=("R/bar.1m", *(f"R/prediction.{model.id}.1m" for model in models)),
        mode="mock",
        generation="00000000",
        market=MarketSpec(tape=str(folder / "tape"), doorbell=f"ipc://{folder}/doorbell", frames=""),
        router_doorbell=f"ipc://{folder}/router",
        folder=str(folder / strategy),
        log=os.devnull,
        log_level="info",
        limits=LimitsSpec(memory_limit_mb=64, cpu_limit=1.0),
        from_start=True,
        history=None,
        slots="",
        parallel=0,
        predictor=ModelProviderSpec(provider="mock", seed=1),
        versions=versions(),
    )

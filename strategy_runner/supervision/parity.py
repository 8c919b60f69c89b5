"""Parity of a client: every worker that recorded signals, and every symbol of the tape, run again in fresh processes."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import msgspec

from strategy_runner.config.availability import history_folder
from strategy_runner.config.home import Home
from strategy_runner.config.spec import FeedSpec, read_specs
from strategy_runner.errors import NotRunningError, StateError, StrategyRunnerError, UsageError
from strategy_runner.history.catalog import find_series
from strategy_runner.history.derivation_parity import DerivationParity, compare_derivation, symbols_on
from strategy_runner.history.parity import WorkerParity, compare, lives
from strategy_runner.model.names import FEED_NAME
from strategy_runner.model.stream import Stream, trades
from strategy_runner.router.intake import worker_log
from strategy_runner.small_files import paths_below
from strategy_runner.strategies.kept_code import is_admitted, kept_digest
from strategy_runner.supervision.forked import Ended, run_forked
from strategy_runner.supervision.plan_client import load_wished
from strategy_runner.supervision.process import HISTORICAL, SIMULATION
from strategy_runner.supervision.target import Target
from strategy_runner.supervision.wishes import Wish, latest_mode, read_latest_run, read_wishes
from strategy_runner.tape.files import head_path
from strategy_runner.tape.head import Head
from strategy_runner.tape.status import read_status
from strategy_runner.worker.genesis import Genesis, read_geneses
from strategy_runner.worker.strategy import generation_now

Show = Callable[[int, int, str], None]


class Parity(msgspec.Struct, frozen=True, kw_only=True):
    """How a client's recorded run compares. A worker that began several times stands there once for each life."""

    client: str
    mode: str
    equal: bool
    workers: tuple[WorkerParity, ...]
    derivation: tuple[DerivationParity, ...]


def check_parity(
    home: Home,
    target: Target,
    mode: str | None,
    *,
    from_ns: int,
    to_ns: int,
    parallel: int,
    environ: Mapping[str, str],
    show: Show,
) -> Parity:
    """Runs the tape again for the workers of a target and compares. `from_ns` and `to_ns` limit what is compared, by event
    time; 0 is no limit. Touches no state.

    Raises UsageError, NotRunningError without a tape, StrategyRunnerError when a process dies.
    """
    assert target.client is not None
    client, run = target.client, recorded_mode(home, target.client, mode)
    tape = recorded_tape(home, run)
    folders = recorded_workers(home, target, run)
    whole = not from_ns and not to_ns and target.is_client
    jobs: dict[str, Callable[[], bytes]] = {
        f"{client}:{folder.name}": partial(_compare_worker, home, folder, tape, from_ns, to_ns) for folder in folders
    }
    if whole:
        for symbol in _symbols_of(folders, tape):
            jobs[symbol] = partial(
                _compare_symbol, home, client, run, dict(environ), tape, symbol, _seeds(home, folders)
            )
    ended = run_forked(jobs, parallel=parallel or os.cpu_count() or 1, show=lambda done, of: show(done, of, "compared"))
    workers = [one for name, end in ended.items() if ":" in name for one in _worker_results(name, end)]
    symbols = [_symbol_result(name, end) for name, end in ended.items() if ":" not in name]
    return Parity(
        client=client,
        mode=run,
        equal=all(one.is_equal for one in workers) and all(one.is_equal for one in symbols),
        workers=tuple(workers),
        derivation=tuple(symbols),
    )


# -- what was recorded -------------------------------------------------------------------------------------------------


def recorded_mode(home: Home, client: str, mode: str | None) -> str:
    """The mode whose run is meant. Raises UsageError for one that leaves no tape, and for an unknown client."""
    run = latest_mode(home, client) if mode is None else mode
    if run == HISTORICAL:
        raise UsageError(
            f"{client}: mode {HISTORICAL}: expected a run that followed a tape, and this one reads files; name one by --mode"
        )
    return run


def recorded_tape(home: Home, mode: str) -> Path:
    """Raises NotRunningError if no feed has ever made one."""
    tape = home.market(mode) / "tape"
    if not head_path(tape).exists():
        raise NotRunningError(f"{tape}: expected a recorded tape, found none; mode {mode} has not run in this home")
    return tape


def recorded_workers(home: Home, target: Target, mode: str) -> list[Path]:
    """State folders of the workers of a target. Raises UsageError if there are none, OSError."""
    assert target.client is not None
    folders = paths_below(home.client_state(target.client, mode) / "workers", "*")
    found = [folder for folder in folders if folder.is_dir() and target.matches(f"{target.client}:{folder.name}")]
    if not found:
        known = ", ".join(folder.name for folder in folders) or "none"
        raise UsageError(f"{target}: expected a worker with recorded signals of mode {mode}, one of {known}")
    return found


def _geneses(folder: Path) -> list[Genesis]:
    """What is damaged is told of by the worker's own comparison."""
    try:
        return read_geneses(folder)
    except (StateError, msgspec.DecodeError):
        return []


def _symbols_of(folders: list[Path], tape: Path) -> list[str]:
    read = {Stream.parse(name).symbol for one in map(_geneses, folders) if one for name in one[-1].spec.streams}
    return sorted(read.intersection(symbols_on(tape)))


def _seeds(home: Home, folders: list[Path]) -> list[int]:
    """Of the mock model: what workers were told when they began, and what the feed goes by now. It is no part of a generation,
    so a changed one begins none."""
    told = [genesis.spec.predictor.seed for folder in folders for genesis in _geneses(folder)]
    feed = read_specs(home.daemon / "specs")[0].get(FEED_NAME)
    return list(dict.fromkeys([*told, *([feed.models.seed] if isinstance(feed, FeedSpec) else [])])) or [0]


# -- in the children ---------------------------------------------------------------------------------------------------


def _compare_worker(home: Home, folder: Path, tape: Path, from_ns: int, to_ns: int) -> bytes:
    status = read_status(folder / "status")  # before the log: what stands below this place has been written
    position = status.position if status is not None else 0
    log = worker_log(folder.parent, folder.name)
    try:
        found, notes = lives(folder, Head(head_path(tape)).first, position)
    except (StateError, msgspec.DecodeError) as error:
        return msgspec.json.encode([WorkerParity(worker=folder.name, generation="", problem=str(error))])
    if not found:
        return msgspec.json.encode([WorkerParity(worker=folder.name, generation="", problem="; ".join(notes))])
    found = [msgspec.structs.replace(life, genesis=_at_home(home, life.genesis)) for life in found]
    results = [compare(life, tape, log, from_ns=from_ns, to_ns=to_ns) for life in found]
    notes += _code_notes(found[-1].genesis)
    last = results[-1]
    return msgspec.json.encode([*results[:-1], msgspec.structs.replace(last, notes=(*last.notes, *notes))])


def _at_home(home: Home, genesis: Genesis) -> Genesis:
    """With the client's code and fills where they lie now: a home may have moved since. Code that was not kept is today's."""
    spec = genesis.spec
    code = _code_now(home, spec.client, spec.code)
    fills = str(home.fills(spec.client, spec.mode)) if spec.fills else ""
    return msgspec.structs.replace(genesis, spec=msgspec.structs.replace(spec, code=code, fills=fills))


def _code_now(home: Home, client: str, code: str) -> str:
    if not code:
        return ""
    kept = home.kept_strategies(client, kept_digest(Path(code).parent)) / Path(code).name
    return str(kept) if is_admitted(kept) else home.live_code(client, code)


def _code_notes(genesis: Genesis) -> tuple[str, ...]:
    try:
        now = generation_now(genesis.spec)
    except StrategyRunnerError:
        return ()  # the comparison has said so
    recorded = genesis.spec.generation
    if now == recorded:
        return ()
    return (f"code or versions have changed since: recorded as generation {recorded}, run with those of {now}",)


def _compare_symbol(
    home: Home, client: str, mode: str, environ: Mapping[str, str], tape: Path, symbol: str, seeds: list[int]
) -> bytes:
    try:
        base = _base(home, client, mode, environ, symbol)
    except StrategyRunnerError as error:
        return msgspec.json.encode(
            DerivationParity(symbol=symbol, base="", notes=(f"nothing was made again: {error}",))
        )
    return msgspec.json.encode(compare_derivation(tape, symbol, base, seeds=seeds))


def _base(home: Home, client: str, mode: str, environ: Mapping[str, str], symbol: str) -> Stream:
    """The series that drove a symbol: of recorded history what the folder says, else its trades."""
    if mode != SIMULATION:
        return trades(symbol)
    run = read_latest_run(home, client)
    wish = run.wish if run is not None and run.mode == mode else Wish(mode=mode)
    environment, _ = load_wished(home, read_wishes(home).environment, client, wish, environ)
    folder = history_folder(home, environment.value)
    if folder is None:
        raise UsageError("history.folder: expected the recorded history that the simulation read, found none")
    return find_series(folder, symbol).base.stream


# -- their results -----------------------------------------------------------------------------------------------------


def _worker_results(name: str, ended: Ended) -> list[WorkerParity]:
    if ended.code:
        return [WorkerParity(worker=name, generation="", problem=_death(ended))]
    found = msgspec.json.decode(ended.result, type=list[WorkerParity])
    return [msgspec.structs.replace(one, worker=name) for one in found]


def _symbol_result(name: str, ended: Ended) -> DerivationParity:
    if ended.code:
        return DerivationParity(symbol=name, base="", first_difference=_death(ended))
    return msgspec.json.decode(ended.result, type=DerivationParity)


def _death(ended: Ended) -> str:
    how = f"signal {-ended.code}" if ended.code < 0 else f"exit code {ended.code}"
    return f"expected the run to end, found its process ended by {how}"

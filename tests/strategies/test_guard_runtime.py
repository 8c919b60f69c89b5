"""The determinism guard at work: what a library does on a strategy's behalf is refused there and then, and nothing else is."""

import random
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from worker.build import new_tape, random_rows, short_folder, status_of, worker_spec, write_rows
from worker.processes import processes_in

from strategy_runner.errors import ConfigurationError, DeterminismError
from strategy_runner.strategies.interface import Strategy
from strategy_runner.strategies.registry import load
from strategy_runner.strategies.testing import bars, run
from strategy_runner.tape.status import State

STRATEGY = """import configparser, copy, ctypes.util, email.utils, importlib, linecache, logging, random, statistics
import traceback, warnings, zoneinfo
from functools import partial
import numpy as np
from strategy_runner.strategies.interface import Inputs, Strategy
class Mine(Strategy):
    inputs = Inputs(bars=True, trades=True)
    def on_bar(self, bar):
        {action}
    on_trade = on_bar
"""
NORMAL = "random" if sys.version_info >= (3, 13) else "gauss"  # what the samples of a normal distribution are made of
LINE = 1 + STRATEGY[: STRATEGY.index("{action}")].count("\n")


def strategy(home: Path, action: str) -> type[Strategy]:
    """A client's strategy that does this at each bar, loaded as a worker loads it."""
    path = home / "clients" / "ada" / "strategies" / "mine.py"
    path.parent.mkdir(parents=True)
    path.write_text(STRATEGY.format(action=action))
    return load("mine", str(path))


REACHED = {
    "statistics.NormalDist().samples(1)": f"random.{NORMAL}() in statistics: expected randomness",
    "random.Random(*[]).random()": "random.Random() in random: expected a seed, found none",
    "getattr(random, 'ran' + 'dom')()": "random.random(): expected randomness",
    "vars(random)['shuffle']([1, 2])": "random.shuffle(): expected randomness",
    "partial(vars(random)['randint'], 1, 6)()": "random.randint(): expected randomness",
    "getattr(np, 'ran' + 'dom').rand()": "numpy.random.rand(): expected randomness",
    "getattr(np, 'ran' + 'dom').mtrand._rand.normal()": "numpy.random.normal(): expected randomness",
    "np.random.Generator(np.random.PCG64(*[]))": "os.urandom() in random: expected randomness",
    "importlib.import_module('sec' + 'rets').token_hex()": "os.urandom() in secrets: expected randomness",
    "importlib.import_module('uu' + 'id').uuid4()": "os.urandom() in uuid: expected randomness",
    "email.utils.formatdate()": "time.time() in email.utils: expected the time of the record, found the clock",
    "importlib.import_module('ti' + 'me').time_ns()": "time.time_ns(): expected the time of the record, found the clock",
    "configparser.ConfigParser().read('/levels.ini')": "open('/levels.ini') in configparser: expected records alone",
    "__builtins__['open']('/levels')": "open('/levels'): expected records alone, found the file system",
    "np.ones(3).tofile('/levels')": "open('/levels'): expected records alone, found the file system",
    "email.utils.make_msgid(idstring='x')": "time.time() in email.utils: expected the time of the record",
    "importlib.import_module('sock' + 'et').socket()": "socket() in socket: expected records alone, found the network",
    "importlib.import_module('sock' + 'et').gethostname()": "socket.gethostname(): expected records alone, found the net",
    "importlib.import_module('o' + 's').listdir('/')": "os.listdir(): expected records alone, found the file system",
    "importlib.import_module('o' + 's').system('true')": "os.system(): expected no process but the worker",
    "importlib.import_module('sub' + 'process').run(['true'])": "subprocess.Popen() in subprocess: expected no process",
    "importlib.import_module('thread' + 'ing').Timer(1, print).start()": "threading.Thread.start(): expected one thread",
    "importlib.import_module('_thr' + 'ead').start_new_thread(print, ())": "_thread.start_new_thread(): expected one",
    "exec('import ti' + 'me; ti' + 'me.time()')": "time.time(): expected the time of the record",
}
if sys.version_info >= (3, 13):
    REACHED |= {
        "vars(random)['binomialvariate'](3)": "random.binomialvariate(): expected randomness",
        "vars(statistics)['kde_random']([1.0], 1.0)": "random.Random() in statistics: expected a seed, found none",
        "importlib.import_module('_thr' + 'ead').start_joinable_thread(print)": "_thread.start_joinable_thread(): expected",
    }


@pytest.mark.parametrize(("action", "found"), REACHED.items())
def test_what_is_reached_by_a_detour_is_refused_with_file_and_line(tmp_path: Path, action: str, found: str) -> None:
    mine = strategy(tmp_path, action)
    with pytest.raises(DeterminismError) as caught:
        run(mine, bars(100.0))
    assert str(caught.value).startswith(f"clients/ada/strategies/mine.py:{LINE}: {found}")


REPEATED = [
    "self.random.random()",
    "random.Random(7).shuffle([1, 2])",
    "np.random.default_rng(7).normal()",
    "np.random.Generator(np.random.PCG64(*[7])).random()",
    "np.random.RandomState(np.random.MT19937(7)).normal()",
    "copy.copy(self.random).random()",
    "copy.deepcopy(random.Random(7)).random()",
    "copy.deepcopy(np.random.default_rng(7)).normal()",
    "statistics.NormalDist().samples(1, seed=7)",
    "email.utils.formatdate(5)",
    "print('said')",
    "logging.getLogger('mine').warning('said')",
    "warnings.warn('said', stacklevel=1)",
    "traceback.format_stack(); linecache.checkcache()",
    "zoneinfo.ZoneInfo.no_cache('Europe/Berlin')",
    "copy.deepcopy([[bar], {bar.close: self}])",
    "import wave, plistlib, numpy.polynomial",
    "importlib.import_module('thread' + 'ing').Lock()",
]


@pytest.mark.parametrize("action", REPEATED)
@pytest.mark.filterwarnings("ignore:said")
def test_what_a_replay_repeats_or_only_tells_goes_on(tmp_path: Path, action: str) -> None:
    mine = strategy(tmp_path, f"{action}; self.buy('done')")
    assert [proposal.reasons for proposal in run(mine, bars(100.0))] == [("done",)]


def test_the_process_around_a_strategy_has_its_clock_its_luck_and_its_files(tmp_path: Path) -> None:
    strategy(tmp_path, "pass")
    assert time.time_ns() > 1_700_000_000_000_000_000
    assert random.random() != random.random()
    assert np.random.rand() != np.random.rand()
    assert np.random.default_rng().random() != np.random.default_rng().random()
    assert random.Random().random() != random.Random().random()
    assert (tmp_path / "clients").is_dir()
    random.seed(7)
    first = random.random()
    assert random.Random(7).random() == first


def test_the_worker_may_ask_the_time_even_in_the_middle_of_a_callback(tmp_path: Path) -> None:
    """As in a signal handler."""
    space = {"__name__": "strategy_runner.worker.follower", "time": time}
    mine = strategy(tmp_path, "self.interrupt()")
    mine.interrupt = staticmethod(eval("lambda: time.time()", space))  # type: ignore[attr-defined]
    assert run(mine, bars(100.0)) == []
    space["__name__"] = "some_library"
    with pytest.raises(DeterminismError, match=r"time\.time\(\) in some_library: "):
        run(mine, bars(100.0))


def test_a_function_that_asks_first_stays_a_function_when_a_class_keeps_it(tmp_path: Path) -> None:
    strategy(tmp_path, "pass")

    class Stopwatch:
        clock = time.time

    assert Stopwatch().clock() > 0.0
    assert time.time.__name__ == "time"


def test_a_library_may_read_its_files_while_it_is_imported_and_not_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "guarded_levels.py").write_text(
        "import threading, time\n"
        "LEVELS = open(__file__).read()\n"
        "STARTED = time.time()\n"
        "threading.Thread(target=print).start()\n"
        "def read(): return open(__file__).read()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    mine = strategy(tmp_path, "import guarded_levels; guarded_levels.read()")
    with pytest.raises(DeterminismError, match=r"mine\.py:\d+: open\('.*'\) in guarded_levels: expected records alone"):
        run(mine, bars(100.0))


def test_what_is_reached_while_a_strategys_file_is_imported_is_refused_with_its_place_told_once(tmp_path: Path) -> None:
    path = tmp_path / "clients" / "ada" / "strategies" / "mine.py"
    path.parent.mkdir(parents=True)
    path.write_text("import statistics\nX = statistics.NormalDist().samples(1)\n")
    with pytest.raises(ConfigurationError) as caught:
        load("mine", str(path))
    (problem,) = caught.value.problems
    expected = f"clients/ada/strategies/mine.py:2: random.{NORMAL}() in statistics: expected randomness"
    assert problem.startswith(expected)


# -- workers -----------------------------------------------------------------------------------------------------------


def test_a_worker_whose_strategy_reaches_out_ends_as_failed_and_names_the_record_file_and_line() -> None:
    with short_folder() as folder, processes_in(folder) as processes:
        write_rows(new_tape(folder), random_rows(4, 2))
        strategies = folder / "clients" / "ada" / "strategies"
        strategies.mkdir(parents=True)
        started = []
        for name, action in (("late", "email.utils.formatdate()"), ("early", "open('/levels')")):
            code = strategies / f"{name}.py"
            code.write_text(STRATEGY.format(action=action))
            changes = {"strategy_type": "mine", "streams": ("X/trade", "X/bar.1m")}
            worker = worker_spec(folder, code=str(code), folder=str(folder / name), **changes)
            started.append((worker, processes.start(name, worker)))
        (late, late_process), (early, early_process) = started
        assert late_process.wait(60) == 1
        assert early_process.wait(60) == 6
        assert status_of(late).state is status_of(early).state is State.FAILED
        assert status_of(late).reason == "StrategyError"
        assert status_of(late).last_error.startswith(
            f"X/trade ordinal 0: DeterminismError: clients/ada/strategies/late.py:{LINE}: time.time() in email.utils: "
        )
        assert "(record: Trade(" in status_of(late).last_error
        assert status_of(early).reason == "DeterminismError"
        assert status_of(early).last_error.startswith(f"clients/ada/strategies/early.py:{LINE}: open(): expected")

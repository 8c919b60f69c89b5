"""The determinism guard reads a strategy's code: it finds what a replay cannot repeat, and nothing that only looks like it."""

from pathlib import Path

import pytest

from strategy_runner.config.home import Home
from strategy_runner.errors import ConfigurationError, DeterminismError
from strategy_runner.strategies import guard_rules, guard_state
from strategy_runner.strategies.describe import Use, resolve
from strategy_runner.strategies.guard import broken, refuse_nondeterminism
from strategy_runner.strategies.guard_rules import Rule
from strategy_runner.strategies.registry import BUILTIN, load, load_client_strategies
from strategy_runner.strategies.scaffold import new_client, new_strategy

ROOT = Path(__file__).parents[2]
CLASS = "from strategy_runner.strategies.interface import Strategy\nclass Mine(Strategy): ...\n"
PARAMS = "what a strategy must know comes as records and params"
CLOCK = "expected the time of the record, found the clock of this machine; use self.now_ns"
ZONE = "expected times in UTC, found the time zone of this machine; give tz=, or count from self.now_ns"
LUCK = "expected randomness that a replay repeats, found randomness of its own in each process; use self.random"
SEED = "expected a seed, found none; use self.random, or give a fixed seed"
LEGACY = (
    "expected a generator that its seed alone makes, found one that draws from this machine's randomness before it is seeded; "
    "use numpy.random.default_rng(7)"
)
FILES = f"expected records alone, found the file system; {PARAMS}"
NETWORK = f"expected records alone, found the network; {PARAMS}"
THREADS = "expected one thread, found work beside the records; work inside the on_... callbacks"
PROCESSES = f"expected no process but the worker, found another one, or its end; {PARAMS}"
MACHINE = f"expected what is the same on every machine, found this machine and its environment; {PARAMS}"
INPUT = f"expected records alone, found standard input; {PARAMS}"
ADDRESS = "expected a value that is the same after a restart, found an address in memory; use a key of your own"
BOTH_ADDRESSES = f"1: object.__hash__(): {ADDRESS}|1: object.__repr__: {ADDRESS}"
PRODUCT = f"expected strategy_runner.model or strategy_runner.strategies, found the inside of a worker; {PARAMS}"
KEPT = "expected state in self, which is kept over a restart"
IN_CLASS = f"{KEPT}, found a change of what the class holds, which is lost; make it in on_start"
IN_DEFAULT = f"{KEPT}, found a change of a default value, which is lost; make it in on_start"


def write(home: Path, **files: str) -> Path:
    folder = home / "clients" / "ada" / "strategies"
    folder.mkdir(parents=True, exist_ok=True)
    for stem, text in files.items():
        path = folder / f"{stem}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return folder


def faults(home: Path, text: str, **beside: str) -> list[str]:
    """What the guard has to say of mine.py."""
    folder = write(home, mine=text, **beside)
    try:
        refuse_nondeterminism(folder / "mine.py")
    except DeterminismError as error:
        return list(error.problems)
    return []


BOTH = f"2: A.x: {IN_CLASS}|2: A.y: {IN_CLASS}"

FORBIDDEN: list[tuple[str, str]] = [
    # the clock
    ("import time\nx = time.time()", f"2: time.time(): {CLOCK}"),
    ("import time as t\nx = t.perf_counter_ns()", f"2: time.perf_counter_ns(): {CLOCK}"),
    ("from time import time as t\n\n\nx = t()", f"4: time.time(): {CLOCK}"),
    ("from time import monotonic", f"1: import time.monotonic: {CLOCK}"),
    ("import time\ndef f(at=time.time): ...", f"2: time.time: {CLOCK}"),
    ("import time\nclass A:\n    def f(self): time.sleep(1)", f"3: time.sleep(): {CLOCK}"),
    ("import time\nx = time.gmtime()", f"2: time.gmtime(): {CLOCK}"),
    ("import time\nx = time.strftime('%H')", f"2: time.strftime(): {CLOCK}"),
    ("from time import *\nx = 1", f"1: import time.*: {CLOCK}"),
    ("import time\nnow = time.time\nx = now()", f"2: time.time: {CLOCK}|3: time.time(): {CLOCK}"),
    ("import time\nclock = time\nx = clock.time_ns()", f"3: time.time_ns(): {CLOCK}"),
    ("def f():\n    import time\n    return [time.time() for _ in range(3)]", f"3: time.time(): {CLOCK}"),
    ("x = __import__('time').time()", f"1: time.time(): {CLOCK}"),
    ("import importlib\nx = importlib.import_module('time').time()", f"2: time.time(): {CLOCK}"),
    ("import time\nx = getattr(time, 'time')()", f"2: time.time(): {CLOCK}"),
    (
        "try:\n    from time import time_ns as n\nexcept ImportError:\n    n = None\nx = n()",
        f"5: time.time_ns(): {CLOCK}",
    ),
    ("import datetime\nx = datetime.datetime.now(datetime.UTC)", f"2: datetime.datetime.now(): {CLOCK}"),
    ("import datetime as dt\nx = dt.datetime.utcnow()", f"2: datetime.datetime.utcnow(): {CLOCK}"),
    ("from datetime import datetime as d\nx = d.now().date()", f"2: datetime.datetime.now(): {CLOCK}"),
    ("from datetime import *\nx = date.today()", f"2: datetime.date.today(): {CLOCK}"),
    ("import numpy as np\nx = np.datetime64('now')", f"2: numpy.datetime64(): {CLOCK}"),
    ("import pandas as pd\nx = pd.Timestamp.now(tz='UTC')", f"2: pandas.Timestamp.now(): {CLOCK}"),
    ("import pandas as pd\nx = pd.Timestamp('now')", f"2: pandas.Timestamp(): {CLOCK}"),
    ("import timeit", f"1: import timeit: {CLOCK}"),
    # the time zone
    ("import time\nx = time.localtime(5)", f"2: time.localtime(): {ZONE}"),
    ("from datetime import datetime\nx = datetime.fromtimestamp(5)", f"2: datetime.datetime.fromtimestamp(): {ZONE}"),
    (
        "from datetime import datetime\nx = datetime.fromtimestamp(5, tz=None)",
        f"2: datetime.datetime.fromtimestamp(): {ZONE}",
    ),
    # randomness
    ("import random\nx = random.random()", f"2: random.random(): {LUCK}"),
    ("from random import choice as pick\nx = pick([1, 2])", f"2: random.choice(): {LUCK}"),
    ("import random\nrandom.seed(7)", f"2: random.seed(): {LUCK}"),
    ("import random\nx = random.Random()", f"2: random.Random(): {SEED}"),
    ("from random import Random\nx = Random(None)", f"2: random.Random(): {SEED}"),
    ("import random\nx = random.SystemRandom()", f"2: random.SystemRandom(): {LUCK}"),
    ("import numpy as np\nx = np.random.normal(0, 1)", f"2: numpy.random.normal(): {LUCK}"),
    ("import numpy.random\nnumpy.random.seed(1)", f"2: numpy.random.seed(): {LUCK}"),
    ("from numpy.random import default_rng\nx = default_rng()", f"2: numpy.random.default_rng(): {SEED}"),
    ("import numpy as np\nx = np.random.default_rng(seed=None)", f"2: numpy.random.default_rng(): {SEED}"),
    ("from numpy import random\nx = random.RandomState()", f"2: numpy.random.RandomState(): {LEGACY}"),
    ("import numpy as np\nx = np.random.RandomState(7)", f"2: numpy.random.RandomState(): {LEGACY}"),
    (
        "from numpy.random import RandomState as R\ndef f(n): return R(seed=n)",
        f"2: numpy.random.RandomState(): {LEGACY}",
    ),
    ("import secrets\nx = secrets.token_hex()", f"1: import secrets: {LUCK}"),
    ("import uuid\nx = uuid.uuid4()", f"2: uuid.uuid4(): {LUCK}"),
    ("from uuid import uuid1\nx = uuid1().hex", f"2: uuid.uuid1(): {LUCK}"),
    ("import uuid\nx = uuid.uuid7()", f"2: uuid.uuid7(): {LUCK}"),
    ("from statistics import kde_random\nx = kde_random([1.0], 1.0)", f"2: statistics.kde_random(): {SEED}"),
    ("import os\nx = os.urandom(8)", f"2: os.urandom(): {LUCK}"),
    # files
    ("x = open('levels.csv').read()", f"1: open(): {FILES}"),
    ("class A:\n    open: float = 0.0\n    def f(self): return open('x')", f"3: open(): {FILES}"),
    ("import builtins\nwith builtins.open('x') as f: ...", f"2: open(): {FILES}"),
    ("from pathlib import Path\nx = Path('x').read_text()", f"2: pathlib.Path(): {FILES}"),
    ("import pathlib\nx = pathlib.Path.home()", f"2: pathlib.Path.home(): {FILES}"),
    ("import os.path\nx = os.path.exists('x')", f"2: os.path.exists(): {FILES}"),
    (
        "from os import path as p, listdir\nx = p.getsize(listdir()[0])",
        f"2: os.listdir(): {FILES}|2: os.path.getsize(): {FILES}",
    ),
    ("import numpy as np\nx = np.load('model.npy')", f"2: numpy.load(): {FILES}"),
    ("import pandas as pd\nx = pd.read_csv('x.csv')", f"2: pandas.read_csv(): {FILES}"),
    ("import sqlite3", f"1: import sqlite3: {FILES}"),
    # the network
    ("import socket", f"1: import socket: {NETWORK}"),
    ("import ssl as tls", f"1: import ssl: {NETWORK}"),
    ("from urllib.request import urlopen\nx = urlopen('http://x')", f"1: import urllib.request: {NETWORK}"),
    ("import http.client", f"1: import http.client: {NETWORK}"),
    ("def f():\n    import requests\n    return requests.get('http://x')", f"2: import requests: {NETWORK}"),
    ("from google.cloud import bigquery", f"1: import google.cloud: {NETWORK}"),
    # threads and processes
    ("import threading", f"1: import threading: {THREADS}"),
    ("import asyncio", f"1: import asyncio: {THREADS}"),
    ("from concurrent.futures import ThreadPoolExecutor", f"1: import concurrent.futures: {THREADS}"),
    ("import multiprocessing as mp", f"1: import multiprocessing: {PROCESSES}"),
    ("import subprocess", f"1: import subprocess: {PROCESSES}"),
    ("import os\nos.system('true')", f"2: os.system(): {PROCESSES}"),
    ("import os\nos._exit(3)", f"2: os._exit(): {PROCESSES}"),
    # the machine
    ("import os\nx = os.environ['HOME']", f"2: os.environ: {MACHINE}"),
    ("import os\nx = os.process_cpu_count()", f"2: os.process_cpu_count(): {MACHINE}"),
    ("import os\nos.environ['X'] = '1'", f"2: os.environ: {MACHINE}"),
    (
        "from os import environ, getenv\nx = environ.get(getenv('Y'))",
        f"2: os.environ.get(): {MACHINE}|2: os.getenv(): {MACHINE}",
    ),
    ("import platform", f"1: import platform: {MACHINE}"),
    ("import sys\nx = sys.stdin.readline()", f"2: sys.stdin.readline(): {INPUT}"),
    ("x = input()", f"1: input(): {INPUT}"),
    ("def f(bar): return {id(bar): 1}", f"1: id(): {ADDRESS}"),
    ("x = sorted([object()], key=id)", f"1: id: {ADDRESS}"),
    ("x = hash(object())", f"1: hash(): {ADDRESS}"),
    ("class A:\n    def f(self): return hash(self) % 2", f"2: hash(): {ADDRESS}"),
    ("def f(bar): return object.__hash__(bar), object.__repr__", BOTH_ADDRESSES),
    # the product's own inside, and other ways in
    ("from strategy_runner.tape.reader import TapeReader", f"1: import strategy_runner.tape.reader: {PRODUCT}"),
    ("import strategy_runner\nx = strategy_runner.assembly.run", f"2: strategy_runner.assembly.run: {PRODUCT}"),
    ("import socket\nx = socket.socket()\ny = socket.socket()", f"1: import socket: {NETWORK}"),
    (
        "from strategy_runner_clients.bob.mine import Mine",
        "1: import strategy_runner_clients.bob.mine: expected a relative import, found an absolute one; "
        "write from .FILE import NAME",
    ),
    # state outside self
    (
        "class A:\n    x = deque(maxlen=3)\n    def f(self, bar):\n        self.x.append(bar)\n        self.x.popleft()",
        f"2: A.x: {IN_CLASS}",
    ),
    ("class A(Strategy):\n    x: list[float] = []\n    def f(self): self.x.append(1)", f"2: A.x: {IN_CLASS}"),
    ("class A:\n    x = y = {}\n    def f(self): self.x['a'] = 1\n    def g(self): del self.y['a']", BOTH),
    ("class A:\n    x = np.zeros(3)\n    def f(me): me.x[0] += 1", f"2: A.x: {IN_CLASS}"),
    ("class A:\n    x = defaultdict(list)\n    def f(self): self.x['a'].append(1)", f"2: A.x: {IN_CLASS}"),
    ("class A:\n    x = {}\n    def f(self): self.x.setdefault('a', []).append(1)", f"2: A.x: {IN_CLASS}"),
    ("class A:\n    x = [0]\n    def f(self): self.x[0], y = 1, 2", f"2: A.x: {IN_CLASS}"),
    ("class A:\n    x = [0]\n    def f(self):\n        self.x += [1]\n        self.x.append(1)", f"2: A.x: {IN_CLASS}"),
    ("class A:\n    x = RollingMax(20)\n    def f(self): self.x.add(1.0)", f"2: A.x: {IN_CLASS}"),
    ("class A:\n    x = B()\n    def f(self): self.x.n = 1", f"2: A.x: {IN_CLASS}"),
    ("class A:\n    x = set()\nclass B(A):\n    def f(self): self.x.add(1)", f"2: A.x: {IN_CLASS}"),
    ("class A:\n    n = 0\n    def f(self): type(self).n += 1", f"3: A.n: {IN_CLASS}"),
    ("class A:\n    n = 0\n    def f(self): self.__class__.n = 1", f"3: A.n: {IN_CLASS}"),
    ("class A:\n    n = 0\n    def f(self): A.n += 1", f"3: A.n: {IN_CLASS}"),
    ("def f(bar, x=[]): x.append(bar)", f"1: f(x=...): {IN_DEFAULT}"),
    ("class A:\n    def f(self, *, x={}):\n        x['a'] = 1", f"2: f(x=...): {IN_DEFAULT}"),
]


@pytest.mark.parametrize(("text", "found"), FORBIDDEN)
def test_what_a_replay_cannot_repeat_is_refused_with_its_line(tmp_path: Path, text: str, found: str) -> None:
    assert faults(tmp_path, text) == [f"clients/ada/strategies/mine.py:{one}" for one in found.split("|")]


ALLOWED = [
    "import math, statistics, collections, dataclasses, typing, functools, itertools, decimal, fractions, enum, abc",
    "import numpy as np\nx = np.mean(np.array([1.0])) + np.linalg.norm([3.0, 4.0])",
    "import msgspec, json, heapq, bisect, operator, re, string, copy, logging, zoneinfo, queue, csv",
    "from strategy_runner.model.event import Bar\nfrom strategy_runner.strategies import indicators, interface",
    "import pandas as pd\nimport scipy.stats\nx = pd.Timestamp(5, tz='UTC') - pd.Timedelta(1)",
    "import random\nx = random.Random(7).random()",
    "from random import Random\ndef f(seed): return Random(seed), Random(x=3)",
    "import random\ndef f(generator: random.Random): return isinstance(generator, random.Random)",
    "from statistics import kde_random\nx = kde_random([1.0], 1.0, seed=7)",
    "import numpy as np\nx = np.random.default_rng(7).normal()\ndef f(g: np.random.Generator): ...",
    "import numpy as np\nx = np.random.RandomState(np.random.MT19937(7)).normal()\ndef f(g: np.random.RandomState): ...",
    "from numpy.random import PCG64, Generator\nx = Generator(PCG64(7)).random()",
    "import datetime as dt\nx = dt.datetime.fromtimestamp(5, tz=dt.UTC)\ny = dt.datetime(2026, 1, 5) + dt.timedelta(1)",
    "from datetime import UTC, datetime\nx = datetime.fromtimestamp(5, UTC).replace(hour=3).date()",
    "import time\nx = time.strftime('%H', time.gmtime(5))",
    "from uuid import UUID, NAMESPACE_URL, uuid5\nx = uuid5(NAMESPACE_URL, 'x')",
    "import os\nx = os.path.join('a', 'b') + os.sep",
    "from urllib.parse import quote\nfrom http import HTTPStatus\nfrom pathlib import PurePath\nx = PurePath('a').name",
    "class A:\n    def time(self): return 1\n    def f(self): return self.time() + self.clock.time()",
    "class A:\n    def f(self): return self.random.random() + self.random.choice([1])",
    "import time\ndef f(time, *, open, **id): return time.time(), open('x'), id(3)",
    "import random\nx = lambda random: random.random()",
    "def f(bars):\n    return [open for open, high, low, close in bars if open(close)]",
    "def f(bar):\n    open, close = bar.open, bar.close\n    return open, close",
    "for id, input in [(1, 2)]:\n    print(id, input)",
    "def time(): return 5\nx = time()\nnow = lambda datetime: datetime.now()",
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import socket\n    from pathlib import Path\ndef f(x: 'Path'): ...",
    "def f(): ...\nif __name__ == '__main__':\n    import time\n    print(open('x').read(), time.time())",
    "import random\nrandom = random.Random(7)\nx = random.random()",
    "time: int = 5\nx = [time.real for time in (1, 2)]\nclass id: ...\ny = id()",
    "def f():\n    nonlocal_time = 1\n    def g():\n        nonlocal nonlocal_time\n        nonlocal_time = 2\n    return g",
    "x = 'time.time()'  # time.time(), open('x'), import socket",
    "try:\n    import numba\nexcept ImportError:\n    numba = None",
    "def f(event):\n    match event:\n        case {'open': open, **id}: return open(id)\n        case [*input]: return input()",
    "import sys\nx = sys.maxsize, sys.float_info.epsilon, hash((1, 2.0)), {1, 2}, set([3])",
    "def f():\n    global open\n    open = max\ndef g(): return open(1, 2)",
    "from dataclasses import dataclass, field\n@dataclass\nclass A:\n    id: int\n    x: list = field(default_factory=list)",
    # tables that are only read, state in self, fields, and what is made anew each time
    "class A:\n    x = {'a': [1]}\n    def f(self): return self.x['a'][0] + sum(self.x.get('b', [])) + len(self.x.copy())",
    "class A:\n    x = []\n    def on_start(self): self.x = []\n    def f(self): self.x.append(1)",
    "class A:\n    x = []\n    def f(self): self.x.append(1)\nclass B(A):\n    def on_start(self): self.x, self.y = [], 1",
    "class A:\n    x = None\n    n = 0\n    total = sum([])\n    def f(self):\n        self.n += 1\n        self.total += 1",
    "class A:\n    x = Context(prec=5)\n    def f(self): return self.x.add(1, 2)",
    "class A:\n    x = property(lambda self: self.y)\n    def f(self): self.x.append(1)",
    "class A(Struct):\n    x: list = []\n    def f(self): self.x.append(1)",
    "class A(Base):\n    x: list = []\nclass B(A):\n    def f(self): self.x.append(1)",
    "class A:\n    x = []\n    @classmethod\n    def f(cls): cls.x.append(1)",
    "class A:\n    x = []\n    def f(self):\n        x = []\n        x.append(1)",
    "class A:\n    def f(self, A):\n        A.n = 1\n        class B:\n            n = 0\n        B.n = 1",
    "class A:\n    n = 0\nA.n = 1\nA.x = []\nA.x.append(1)",
    "def f(bar, x=None, y=(), z=[]):\n    z = z or []\n    z.append(bar)\n    return x, y",
    "def f(found):\n    def g(bar, x=found, y=[]): x.append(bar), y.append(bar)\n    return g",
    "class A(A):\n    x: list = []\n    def f(self): self.x.append(1)",
]


@pytest.mark.parametrize("text", ALLOWED)
def test_what_only_looks_like_it_and_what_a_replay_repeats_is_allowed(tmp_path: Path, text: str) -> None:
    compile(text, "mine.py", "exec")
    assert faults(tmp_path, text) == []


def test_every_rule_has_a_forbidden_example() -> None:
    rules = [value for one in (guard_rules, guard_state) for value in vars(one).values() if isinstance(value, Rule)]
    assert len(rules) >= 12
    assert [rule for rule in rules if not any(broken(rule) in found for _, found in FORBIDDEN)] == []


# -- files -------------------------------------------------------------------------------------------------------------


def test_files_beside_a_strategy_are_read_as_far_as_they_are_imported(tmp_path: Path) -> None:
    text = "from ._levels import LEVELS\nfrom . import _deep\nfrom .package.inner import x\n" + CLASS
    folder = write(
        tmp_path,
        mine=text,
        _levels="LEVELS = open('levels.csv')\n",
        _deep="from ._deeper import *\n",
        _deeper="from . import mine\nimport random\nx = random.random()\n",
        _alone="import socket\n",
        test_mine="import time\ntime.sleep(1)\n",
    )
    (folder / "package").mkdir()
    (folder / "package" / "__init__.py").write_text("import threading\n")
    (folder / "package" / "inner.py").write_text("from .other import x\n")
    (folder / "package" / "other.py").write_text("import time\nfrom .._levels import LEVELS\nx = time.time()\n")
    with pytest.raises(DeterminismError) as caught:
        refuse_nondeterminism(folder / "mine.py")
    assert set(caught.value.problems) == {
        f"clients/ada/strategies/_levels.py:1: open(): {FILES}",
        f"clients/ada/strategies/_deeper.py:3: random.random(): {LUCK}",
        f"clients/ada/strategies/package/__init__.py:1: import threading: {THREADS}",
        f"clients/ada/strategies/package/other.py:3: time.time(): {CLOCK}",
    }


def test_what_lies_outside_the_clients_folder_is_not_read_and_cannot_be_imported(tmp_path: Path) -> None:
    folder = write(tmp_path, mine="from ..other import x\n" + CLASS)
    (folder.parent / "other.py").write_text("x = open('x')\n")
    refuse_nondeterminism(folder / "mine.py")
    with pytest.raises(ConfigurationError, match=r"mine\.py: line 1: ImportError|ModuleNotFoundError"):
        load("mine", str(folder / "mine.py"))


def test_all_places_of_all_files_are_told_at_once_and_a_shared_one_once(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        _shared="x = open('x')\n",
        a="import time\nfrom . import _shared\nx = time.time(), time.time()\ny = input()\n" + CLASS,
        b="from ._shared import x\n" + CLASS.replace("Mine", "Other"),
        c=CLASS.replace("Mine", "Third"),
    )
    told = (
        f"clients/ada/strategies/a.py:3: time.time(): {CLOCK}",
        f"clients/ada/strategies/a.py:4: input(): {INPUT}",
        f"clients/ada/strategies/_shared.py:1: open(): {FILES}",
    )
    for look in (load_client_strategies, lambda folder: resolve(folder, [])):
        with pytest.raises(ConfigurationError) as caught:
            look(folder)
        assert caught.value.problems == told


def test_nothing_of_a_refused_file_runs(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    folder = write(tmp_path, mine=f"open({str(ran)!r}, 'w')\n" + CLASS)
    with pytest.raises(DeterminismError, match=r"mine\.py:1: open\(\)"):
        load("mine", str(folder / "mine.py"))
    assert not ran.exists()


@pytest.mark.parametrize("text", ["def broken(:\n", "x = '\0'\n", "x = " + "(" * 5000, "# coding: klingon\n"])
def test_what_does_not_parse_is_left_to_the_import_which_says_why(tmp_path: Path, text: str) -> None:
    assert faults(tmp_path, text) == []
    with pytest.raises(ConfigurationError, match=r"clients/ada/strategies/mine\.py: "):
        load("mine", str(tmp_path / "clients" / "ada" / "strategies" / "mine.py"))


def test_names_that_go_round_in_a_circle_end(tmp_path: Path) -> None:
    assert faults(tmp_path, "a = b.x\nb = a.y\na.time()\nc = c\nc.time()\n") == []


# -- what must pass ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted((ROOT / "clients").glob("*/strategies/*.py")), ids=lambda path: path.stem)
def test_the_strategies_of_the_sample_clients_pass(path: Path) -> None:
    refuse_nondeterminism(path)


@pytest.mark.parametrize("client", ["christian", "ikenna", "odum"])
def test_the_sample_clients_are_described(client: str) -> None:
    resolve(ROOT / "clients" / client / "strategies", [Use(name, {}, name) for name in BUILTIN])


def test_a_scaffolded_strategy_passes(tmp_path: Path) -> None:
    home = Home(tmp_path)
    new_client(home, "ada")
    code, _ = new_strategy(home, "ada", "breakout")
    refuse_nondeterminism(code)
    assert load("breakout", str(code)).__name__ == "Breakout"


@pytest.mark.parametrize("name", BUILTIN)
def test_the_built_in_strategies_pass_too(name: str) -> None:
    refuse_nondeterminism(ROOT / "strategy_runner" / "strategies" / f"{name}.py")

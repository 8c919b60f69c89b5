"""What a strategy may not reach, by the full name that Python knows it by, and what to use instead.

A refused name takes everything below it along; `os.*` is everything below `os`, but not `import os` itself. An allowed name
takes everything below it back. A name that stands in neither list is allowed, so any other library is.
"""

import ast
from collections.abc import Callable, Mapping

import msgspec


class Rule(msgspec.Struct, frozen=True):
    """Why a name is refused, in the words of a message: expected, found, and what to use."""

    expected: str
    found: str
    instead: str


def refused(name: str) -> Rule | None:
    """The rule that a full name breaks, wherever it is used."""
    prefix = name
    while prefix:
        if prefix in _ALLOWED:
            return None
        if prefix in _REFUSED:
            return _REFUSED[prefix]
        prefix, _, _ = prefix.rpartition(".")
        if f"{prefix}.*" in _REFUSED and name not in _ALLOWED_ABOVE:
            return _REFUSED[f"{prefix}.*"]
    return None


def refused_call(name: str, call: ast.Call) -> Rule | None:
    """The rule that a call breaks by its arguments, though the name itself is allowed."""
    if name not in _CALLS or any(isinstance(value, ast.Starred) for value in call.args):
        return None  # what is unpacked cannot be read here
    if any(keyword.arg is None for keyword in call.keywords):
        return None
    is_fine, rule = _CALLS[name]
    return None if is_fine(call) else rule


def names_below(module: str) -> list[str]:
    """Names that `from module import *` may bring, as far as rules speak of them."""
    below = f"{module}."
    return sorted({name[len(below) :].split(".")[0] for name in {*_REFUSED, *_ALLOWED} if name.startswith(below)})


# -- the rules ---------------------------------------------------------------------------------------------------------

_PARAMS = "what a strategy must know comes as records and params"
CLOCK = Rule("the time of the record", "the clock of this machine", "use self.now_ns")
LOCAL_TIME = Rule("times in UTC", "the time zone of this machine", "give tz=, or count from self.now_ns")
LUCK = Rule("randomness that a replay repeats", "randomness of its own in each process", "use self.random")
SEED = Rule("a seed", "none", "use self.random, or give a fixed seed")
LEGACY = Rule(
    "a generator that its seed alone makes",
    "one that draws from this machine's randomness before it is seeded",
    "use numpy.random.default_rng(7)",
)
FILES = Rule("records alone", "the file system", _PARAMS)
NETWORK = Rule("records alone", "the network", _PARAMS)
THREADS = Rule("one thread", "work beside the records", "work inside the on_... callbacks")
PROCESSES = Rule("no process but the worker", "another one, or its end", _PARAMS)
MACHINE = Rule("what is the same on every machine", "this machine and its environment", _PARAMS)
INPUT = Rule("records alone", "standard input", _PARAMS)
ADDRESS = Rule("a value that is the same after a restart", "an address in memory", "use a key of your own")
BESIDE = Rule("a relative import", "an absolute one", "write from .FILE import NAME")
PRODUCT = Rule("strategy_runner.model or strategy_runner.strategies", "the inside of a worker", _PARAMS)

_NAMES_REFUSED: Mapping[Rule, str] = {
    CLOCK: """
        time.* timeit sched
        datetime.datetime.now datetime.datetime.utcnow datetime.datetime.today datetime.date.today
        pandas.Timestamp.now pandas.Timestamp.utcnow pandas.Timestamp.today
        pandas.Period.now pandas.datetime.now
    """,
    LOCAL_TIME: "datetime.date.fromtimestamp time.localtime time.mktime time.ctime time.tzset time.timezone time.tzname",
    LUCK: "random.* secrets numpy.random.* os.urandom os.getrandom uuid.uuid1 uuid.uuid4 uuid.uuid6 uuid.uuid7",
    FILES: """
        os.* builtins.open io.open io.open_code io.FileIO codecs.open pathlib.Path pathlib.PosixPath pathlib.WindowsPath
        gzip.open gzip.GzipFile bz2.open bz2.BZ2File lzma.open lzma.LZMAFile zipfile tarfile
        shutil tempfile glob fileinput mmap fcntl sqlite3 dbm shelve duckdb
        numpy.load numpy.save numpy.savez numpy.savez_compressed numpy.loadtxt numpy.savetxt numpy.genfromtxt
        numpy.fromfile numpy.memmap numpy.lib.format.open_memmap
        pandas.read_csv pandas.read_parquet pandas.read_pickle pandas.read_json pandas.read_excel pandas.read_feather
        pandas.read_hdf pandas.read_sql pandas.read_table pandas.HDFStore pandas.ExcelFile
        polars.read_csv polars.read_parquet polars.read_ipc polars.read_json
        polars.scan_csv polars.scan_parquet polars.scan_ipc joblib.load joblib.dump
    """,
    NETWORK: """
        socket ssl select selectors socketserver http.client http.server urllib.request urllib.robotparser xmlrpc
        ftplib smtplib poplib imaplib nntplib telnetlib webbrowser
        requests httpx aiohttp urllib3 websocket websockets zmq grpc redis kafka pika paramiko
        boto3 botocore google.cloud psycopg psycopg2 pymongo pymysql sqlalchemy ccxt yfinance
    """,
    THREADS: "asyncio threading _thread concurrent trio anyio curio gevent eventlet signal joblib.Parallel",
    PROCESSES: """
        subprocess multiprocessing pty os.system os.popen os.fork os.forkpty os.kill os.killpg os._exit os.abort
        os.execl os.execle os.execlp os.execlpe os.execv os.execve os.execvp os.execvpe os.posix_spawn os.posix_spawnp
        os.spawnl os.spawnle os.spawnlp os.spawnlpe os.spawnv os.spawnve os.spawnvp os.spawnvpe
    """,
    MACHINE: """
        os.environ os.environb os.getenv os.getenvb os.putenv os.unsetenv os.getpid os.getppid os.uname os.getcwd
        os.cpu_count os.process_cpu_count os.getloadavg os.times os.getlogin platform getpass psutil resource uuid.getnode
    """,
    INPUT: "builtins.input builtins.breakpoint sys.stdin sys.__stdin__ pdb",
    ADDRESS: "builtins.id builtins.object.__hash__ builtins.object.__repr__",
    PRODUCT: "strategy_runner.*",
    BESIDE: "strategy_runner_clients",
}
_REFUSED = {name: rule for rule, names in _NAMES_REFUSED.items() for name in names.split()}
_NAMES_ALLOWED = """
    strategy_runner.model strategy_runner.strategies strategy_runner.__version__
    time.gmtime time.strftime time.asctime time.strptime time.struct_time
    random.Random
    numpy.random.Generator numpy.random.BitGenerator numpy.random.SeedSequence numpy.random.default_rng
    numpy.random.RandomState numpy.random.PCG64 numpy.random.PCG64DXSM numpy.random.MT19937 numpy.random.Philox
    numpy.random.SFC64
    os.path.join os.path.basename os.path.dirname os.path.split os.path.splitext os.path.normpath os.path.isabs
    os.path.commonprefix os.path.commonpath os.path.sep os.sep os.linesep os.pathsep os.name os.fspath os.fsencode
    os.fsdecode os.PathLike
"""
_ALLOWED = frozenset(_NAMES_ALLOWED.split())
_ALLOWED_ABOVE = frozenset(name.rsplit(".", depth)[0] for name in _ALLOWED for depth in range(1, name.count(".") + 1))


def _is_seeded(call: ast.Call) -> bool:
    return _is_given(call, 0) or any(not _is_none(keyword.value) for keyword in call.keywords)


def _has_seed(call: ast.Call) -> bool:
    return any(keyword.arg == "seed" and not _is_none(keyword.value) for keyword in call.keywords)


def _has_time_zone(call: ast.Call) -> bool:
    return _is_given(call, 1) or any(keyword.arg == "tz" and not _is_none(keyword.value) for keyword in call.keywords)


def _has_no_now(call: ast.Call) -> bool:
    values = [*call.args, *(keyword.value for keyword in call.keywords)]
    return not any(isinstance(value, ast.Constant) and value.value in ("now", "today") for value in values)


def _is_given(call: ast.Call, index: int) -> bool:
    return len(call.args) > index and not _is_none(call.args[index])


def _is_none(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is None


def _is_made_of_a_generator(call: ast.Call) -> bool:
    """`RandomState(MT19937(7))`: given a number it is seeded by the system first."""
    values = [*call.args, *(keyword.value for keyword in call.keywords)]
    return any(isinstance(value, ast.Call) for value in values)


def _has_a_hash(call: ast.Call) -> bool:
    """Only what is sure: a plain object, and a strategy, have none but their address."""
    match call.args:
        case [ast.Call(func=ast.Name(id="object"))] | [ast.Name(id="self")]:
            return False
    return True


_SEEDED = """
    random.Random numpy.random.default_rng numpy.random.SeedSequence numpy.random.PCG64
    numpy.random.PCG64DXSM numpy.random.MT19937 numpy.random.Philox numpy.random.SFC64
"""
# by name: what makes a call a fine one, and the rule it breaks otherwise
_CALLS: Mapping[str, tuple[Callable[[ast.Call], bool], Rule]] = {
    **dict.fromkeys(_SEEDED.split(), (_is_seeded, SEED)),
    "statistics.kde_random": (_has_seed, SEED),
    "numpy.random.RandomState": (_is_made_of_a_generator, LEGACY),
    "builtins.hash": (_has_a_hash, ADDRESS),
    "datetime.datetime.fromtimestamp": (_has_time_zone, LOCAL_TIME),
    "time.gmtime": (lambda call: _is_given(call, 0), CLOCK),
    "time.asctime": (lambda call: _is_given(call, 0), CLOCK),
    "time.strftime": (lambda call: _is_given(call, 1), CLOCK),
    "numpy.datetime64": (_has_no_now, CLOCK),
    "pandas.Timestamp": (_has_no_now, CLOCK),
    "pandas.to_datetime": (_has_no_now, CLOCK),
}

"""peers: the same SMA 20/50 and EMA 100 rules through other engines, in the same run.

vnpy and nautilus_trader call Python for each event and match orders, as ours does event by event. vectorbt sees all bars at
once, hftbacktest runs a compiled strategy over trades; beside them stands ours with bars at once. None of the four reads its
data within what is timed, checks it, or writes signals or fills to a disk, as ours does; so `on_bars` alone is shown as well.

The scripts that drive them are not part of this project: STRATEGY_RUNNER_PEERS names their folder. Each engine gets a virtual
environment of its own below .peers/. What is timed there is the engine's run alone, as in ours: no import, no loading.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from benchmarks import historical
from benchmarks.common import Figure, Sample, Settings, figure, talk

NAME = "peers"
_FOLDER = Path(os.environ.get("STRATEGY_RUNNER_PEERS", "../shared/bench/peers"))
_VENVS = Path(".peers")
_DATA = ("numpy", "pandas", "pyarrow", "psutil")
_ENGINES = {
    "vnpy": ("psutil", "vnpy==4.5.0", "vnpy_ctastrategy==1.4.1", "vnpy_sqlite==1.1.3"),
    "nautilus_trader": ("psutil", "nautilus_trader==1.221.0"),
    "vectorbt": ("psutil", "vectorbt==1.2.0"),
    "hftbacktest": ("psutil", "hftbacktest==2.4.4"),
}
_BARS, _TRADES = "SMA 20/50, bars/s", "EMA 100, trades/s"
_AT_ONCE, _ALONE = "SMA 20/50 bars at once, bars/s", "SMA 20/50 on_bars alone, bars/s"
# which of ours stands beside which of theirs: their fastest way to the same rule, sums kept by hand and no indicator worked out
# anew for each bar
_PAIRS = (
    (_BARS, "vnpy", "bars_manual"),
    (_TRADES, "vnpy", "ticks"),
    (_BARS, "nautilus_trader", "bars_tuned"),
    (_TRADES, "nautilus_trader", "ticks"),
    (_AT_ONCE, "vectorbt", "bars"),
    (_ALONE, "vectorbt", "bars"),
    (_AT_ONCE, "hftbacktest", "bars_as_trades"),
    (_ALONE, "hftbacktest", "bars_as_trades"),
    (_TRADES, "hftbacktest", "ticks"),
)


def run(settings: Settings) -> Iterator[Figure]:
    if not (_FOLDER / "make_data.py").exists():
        talk(f"  {NAME}: no scripts of other engines in {_FOLDER}; STRATEGY_RUNNER_PEERS names their folder")
        return
    once = msgspec.structs.replace(settings, runs=1)
    ours: dict[str, Callable[[], Sample]] = {
        _BARS: lambda: historical.worker_bars(once),
        _TRADES: lambda: historical.worker_trades(once),
        _AT_ONCE: lambda: historical.worker_bars(once, "--vectorised"),
        _ALONE: lambda: historical.rule_alone(once),
    }
    with TemporaryDirectory(prefix="sr") as name:
        _run(_python("data", _DATA), "make_data.py", name, "--bars", str(settings.rows), "--ticks", str(settings.rows))
        for what, engine, mode in _PAIRS:
            try:
                python = _python(engine, _ENGINES[engine])
            except subprocess.CalledProcessError:
                talk(f"  {NAME}: {engine} cannot be installed here")
                continue
            words = (f"bench_{engine}.py", name, mode, str(settings.rows))
            own, other = [], []
            for _ in range(settings.runs):  # in turn: the machine is faster at one time than at another
                own.append(ours[what]().median)
                other.append(json.loads(_run(python, *words).splitlines()[-1])["per_s"])
            rule, unit = what.split(", ")
            yield figure(settings, NAME, rule, unit, Sample.of(own), Sample.of(other), f"{engine} ({mode})")


def _python(name: str, packages: tuple[str, ...]) -> str:
    """The interpreter of a virtual environment that has the packages; made when it is not there yet."""
    python = (_VENVS / name / "bin" / "python").absolute()
    stamp = _VENVS / name / "installed"
    if not stamp.exists():
        talk(f"  installing {', '.join(packages)}")
        subprocess.run([sys.executable, "-m", "venv", str(_VENVS / name)], check=True)
        words = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
        subprocess.run(words, check=True, stdout=sys.stderr)
        stamp.touch()
    return str(python)


def _run(python: str, script: str, *words: str) -> str:
    result = subprocess.run(
        [python, script, *words], cwd=_FOLDER, capture_output=True, text=True, check=False, env=_environment()
    )
    if result.returncode:
        raise RuntimeError(f"{script} {' '.join(words)}: exit code {result.returncode}: {result.stderr[-2000:]}")
    return result.stdout


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}

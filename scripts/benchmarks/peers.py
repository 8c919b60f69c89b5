"""peers: the same SMA 20/50 and EMA 100 rules through other engines that call Python for each event, in the same run.

The scripts that drive them are not part of this project: STRATEGY_RUNNER_PEERS names their folder. Each engine gets a virtual
environment of its own below .peers/. What is timed there is the engine's run alone, as in ours: no import, no loading.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import historical
from benchmarks.common import Figure, Sample, Settings, figure, talk

NAME = "peers"
_FOLDER = Path(os.environ.get("STRATEGY_RUNNER_PEERS", "../shared/bench/peers"))
_VENVS = Path(".peers")
_DATA = ("numpy", "pandas", "pyarrow", "psutil")
_ENGINES = {
    "vnpy": ("psutil", "vnpy==4.5.0", "vnpy_ctastrategy==1.4.1", "vnpy_sqlite==1.1.3"),
    "nautilus_trader": ("psutil", "nautilus_trader==1.221.0"),
}
_MODES = {"bars": "SMA 20/50, bars/s", "ticks": "EMA 100, trades/s"}
# their fastest way to the same rule: sums kept by hand, not an indicator worked out anew for each bar
_FASTEST = {("vnpy", "bars"): "bars_manual", ("nautilus_trader", "bars"): "bars_tuned"}


def run(settings: Settings) -> Iterator[Figure]:
    if not (_FOLDER / "make_data.py").exists():
        talk(f"  {NAME}: no scripts of other engines in {_FOLDER}; STRATEGY_RUNNER_PEERS names their folder")
        return
    ours = {"bars": historical.worker_bars(settings), "ticks": historical.worker_trades(settings)}
    with TemporaryDirectory(prefix="sr") as name:
        _run(_python("data", _DATA), "make_data.py", name, "--bars", str(settings.rows), "--ticks", str(settings.rows))
        for engine, packages in _ENGINES.items():
            try:
                python = _python(engine, packages)
            except subprocess.CalledProcessError:
                talk(f"  {NAME}: {engine} cannot be installed here")
                continue
            for mode, what in _MODES.items():
                theirs = _FASTEST.get((engine, mode), mode)
                words = (f"bench_{engine}.py", name, theirs, str(settings.rows))
                rates = [json.loads(_run(python, *words).splitlines()[-1])["per_s"] for _ in range(settings.runs)]
                rule, unit = what.split(", ")
                yield figure(settings, NAME, rule, unit, ours[mode], Sample.of(rates), f"{engine} ({theirs})")


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

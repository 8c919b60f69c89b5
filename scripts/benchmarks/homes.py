"""A home folder for a benchmark: laid out by `init`, with one client of our own, removed when the benchmarks end."""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from strategy_runner.config.home import Home
from strategy_runner.errors import StrategyRunnerError
from strategy_runner.supervision.layout import init_home

CLIENT = "bench"
COMMAND_TIMEOUT_S = 600.0


@contextmanager
def bench_home(
    symbols: Sequence[str],
    strategies: Sequence[str],
    *,
    own: Sequence[str] = (),
    routes: Sequence[str] = (),
    tables: str = "",
    lot_size: float = 1.0,
) -> Iterator[Home]:
    """A home whose client runs every strategy (a table of TOML, without its symbols) on every symbol.

    `own` are modules of this package that are the client's own strategies, `tables` stand in its file as they are.
    """
    root = Path(tempfile.mkdtemp(prefix="sr"))  # below the folder for temporary files, since socket paths are short
    try:
        init_home(root)
        home = Home(root)
        shutil.rmtree(home.clients)
        home.client_config(CLIENT).parent.mkdir(parents=True)
        home.client_config(CLIENT).write_text(_client_toml(symbols, strategies, routes, tables))
        home.client_strategies(CLIENT).mkdir()
        for module in own:
            shutil.copy(Path(__file__).with_name(f"{module}.py"), home.client_strategies(CLIENT))
        with home.environment_config("local-dev").open("a") as environment:
            environment.write("".join(_instrument_toml(symbol, lot_size) for symbol in symbols))
        yield home
    finally:
        # not before the end: ext4 looks for minutes at every file that was removed before it makes a new one in its place
        atexit.register(shutil.rmtree, root, ignore_errors=True)


def command(home: Home, *words: str) -> list[str]:
    return [str(Path(sys.executable).with_name("strategy-runner")), "--home", str(home.root), *words]


def run_command(home: Home, *words: str, environ: Mapping[str, str] | None = None) -> str:
    """What the command printed. Raises StrategyRunnerError with its messages if it fails."""
    ended = subprocess.run(
        command(home, *words),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        env=clean_environment(environ or {}),
        check=False,
    )
    if ended.returncode:
        raise StrategyRunnerError(f"strategy-runner {' '.join(words)}: exit code {ended.returncode}\n{ended.stderr}")
    return ended.stdout


def clean_environment(more: Mapping[str, str]) -> dict[str, str]:
    """Ours, without what would change a result: settings of the product, and the path that found the benchmark."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("STRATEGY_RUNNER")}
    ours.pop("PYTHONPATH", None)
    return {**ours, **more}


def _client_toml(symbols: Sequence[str], strategies: Sequence[str], routes: Sequence[str], tables: str) -> str:
    accounts = "\n".join(f'{symbol} = {{ venue = "bench", account = "bench" }}' for symbol in symbols)
    listed = ", ".join(f'"{symbol}"' for symbol in symbols)
    ways = ", ".join(f'"{route}"' for route in routes)
    runs = "\n".join(f"[[strategies]]\n{strategy}\nsymbols = [{listed}]\n" for strategy in strategies)
    return f'mode = "mock"\nroutes = [{ways}]\n\n[accounts]\n{accounts}\n\n{tables}\n\n{runs}'


def _instrument_toml(symbol: str, lot_size: float) -> str:
    return (
        f'\n[instruments.{symbol}]\nasset_class = "crypto"\nprice = 4_000.0\ntick_size = 0.25\nlot_size = {lot_size}\n'
    )

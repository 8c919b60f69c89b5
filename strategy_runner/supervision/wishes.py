"""Wishes: what operators last asked to run. Kept on disk, so that a restarted daemon starts what should run and nothing else.

What a person stopped, no machine starts: a client without a wish stays down, a worker listed as stopped stays down.
"""

import contextlib
import fcntl
import getpass
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec

from strategy_runner.config.home import Home
from strategy_runner.config.load import client_names
from strategy_runner.errors import StateError, UsageError


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """One client that should run, with what the command line said of the run; None leaves it to the files.

    `stopped` lists workers by folder name (strategy.symbol). `from_ns` and `to_ns` 0 are the ends of history. `checked_bars` is
    for one that takes bars at once. `observe` is for a
    run without routes.
    """

    mode: str | None = None
    live: bool = False
    history: str | None = None
    speed: float | None = None
    from_ns: int = 0
    to_ns: int = 0
    symbols: tuple[str, ...] = ()
    parallel: int = 0
    checked_bars: int | None = None
    observe: bool = False
    stopped: tuple[str, ...] = ()


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """All wishes of a home, and the name of the environment file they were made under."""

    environment: str = "local-dev"
    clients: dict[str, Wish] = {}

    def with_client(self, client: str, wish: Wish | None) -> "Wishes":
        clients = {name: known for name, known in self.clients.items() if name != client}
        if wish is not None:
            clients[client] = wish
        return msgspec.structs.replace(self, clients=dict(sorted(clients.items())))


def read_wishes(home: Home) -> Wishes:
    """Raises StateError if the file is damaged."""
    path = home.daemon / "wishes.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Wishes)
    except FileNotFoundError:
        return Wishes()
    except msgspec.DecodeError as error:
        raise StateError(
            f"{path}: expected what operators asked for, found: {error}; remove the file to forget it"
        ) from error


def write_wishes(home: Home, wishes: Wishes) -> None:
    path = home.daemon / "wishes.json"
    temporary = path.with_suffix(".new")
    with temporary.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(wishes)))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A client's latest run: commands that read its signals, or show it stopped, take it from here."""

    mode: str
    wish: Wish


def write_latest_run(home: Home, client: str, run: Run) -> None:
    path = _latest_path(home, client)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_suffix(".new")
    temporary.write_bytes(msgspec.json.encode(run))
    temporary.replace(path)


def read_latest_run(home: Home, client: str) -> Run | None:
    """None if the client has never run."""
    try:
        return msgspec.json.decode(_latest_path(home, client).read_bytes(), type=Run)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise StateError(f"{_latest_path(home, client)}: expected a client's latest run, found: {error}") from error


def forget_latest_run(home: Home, client: str, mode: str) -> None:
    """For a run whose files go away: a latest run of this mode is none any more."""
    run = read_latest_run(home, client)
    if run is not None and run.mode == mode:
        _latest_path(home, client).unlink()


def latest_mode(home: Home, client: str) -> str:
    """The mode of the latest run. Raises UsageError if the client is unknown or has never run."""
    run = read_latest_run(home, client)
    if run is None:
        known = client_names(home)
        if client not in known:
            raise UsageError(f"{client}: expected a client of {home.clients}, one of {', '.join(known) or 'none'}")
        raise UsageError(f"{client}: expected a run to read from, found none; start it first")
    return run.mode


def _latest_path(home: Home, client: str) -> Path:
    return home.var / "clients" / client / "latest.json"


@contextlib.contextmanager
def one_operator_at_a_time(home: Home) -> Iterator[None]:
    """Held while wishes, specs and the daemon's configuration change, so that two commands never mix their changes."""
    client_names(home)  # raises for a folder that is no home, before anything is written into it
    for folder in (home.var, home.daemon):  # one by one: parents that mkdir makes get another mode
        folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(home.daemon / "operator.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def operator_name() -> str:
    """The person at the keyboard, as well as this host knows."""
    try:
        return f"{os.environ.get('SUDO_USER') or getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):
        return f"uid {os.getuid()}@{socket.gethostname()}"

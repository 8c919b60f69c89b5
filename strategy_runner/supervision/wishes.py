"""Wishes: what operators last asked to run. Kept on disk, so that a restarted daemon starts what should run and nothing else.

What a person stopped, no machine starts: a client without a wish stays down, a worker listed as stopped stays down.
"""

import contextlib
import fcntl
import getpass
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import msgspec

from strategy_runner.config.home import Home
from strategy_runner.config.instruments import instruments_of
from strategy_runner.config.load import client_names, load_environment, unknown_client
from strategy_runner.config.loaded import Loaded
from strategy_runner.config.schema import EnvironmentConfig
from strategy_runner.errors import ConfigurationError, StateError, UsageError, naming, reason_of
from strategy_runner.model.instrument import Instrument
from strategy_runner.model.names import RESERVED_CLIENTS
from strategy_runner.small_files import paths_below, paths_in, read_whole, replace_file
from strategy_runner.tape.lock import holder

_BEGUN_ANEW = ("simulation", "historical")  # modes whose runs begin with empty folders


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
        return msgspec.json.decode(read_whole(path), type=Wishes)
    except FileNotFoundError:
        return Wishes()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StateError(
            f"{path}: expected what operators asked for, found: {error}; remove the file to forget it"
        ) from error


def environment_in_use(home: Home, environ: Mapping[str, str]) -> Loaded[EnvironmentConfig]:
    """Raises StateError, ConfigurationError."""
    return load_environment(home, read_wishes(home).environment, environ=environ)


def instruments_in_use(home: Home, environ: Mapping[str, str]) -> dict[str, Instrument]:
    """By symbol. Raises StateError, ConfigurationError."""
    return instruments_of(environment_in_use(home, environ).value.instruments)


def write_wishes(home: Home, wishes: Wishes) -> None:
    path = home.daemon / "wishes.json"
    with naming(path):
        replace_file(path, msgspec.json.format(msgspec.json.encode(wishes)), synced="content")


# it names a folder, and neither of the files that say it has a checksum
_Mode = Annotated[str, msgspec.Meta(pattern="^(mock|live|simulation|historical)$")]


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A client's latest run: commands that read its signals, or show it stopped, take it from here.

    `lasting` is the latest whose folders the next of its mode goes on with, where this one is none: simulations and runs over
    history begin anew.
    """

    mode: _Mode
    wish: Wish
    lasting: "Run | None" = None


class _Told(msgspec.Struct, frozen=True):
    """Of a router's specification all that is asked here, by commands that are typed often: the rest is slow to import."""

    mode: _Mode


def write_latest_run(home: Home, client: str, run: Run) -> None:
    if run.mode in _BEGUN_ANEW:
        with contextlib.suppress(StateError):  # of a damaged file nothing can be kept
            run = msgspec.structs.replace(run, lasting=_lasting_run(home, client))
    path = _latest_path(home, client)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with naming(path):
        replace_file(path, msgspec.json.encode(run), synced="name")


def read_latest_run(home: Home, client: str) -> Run | None:
    """None if the client has never run."""
    try:
        return msgspec.json.decode(read_whole(_latest_path(home, client)), type=Run)
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = reason_of(error)
        raise StateError(f"{_latest_path(home, client)}: expected a client's latest run, found: {reason}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StateError(
            f"{_latest_path(home, client)}: expected a client's latest run, found: {error}; its next start writes it anew"
        ) from error


def forget_latest_run(home: Home, client: str, mode: str) -> None:
    """For a run whose files go away: a latest run of this mode is none any more, and the lasting one before it is the latest."""
    run = read_latest_run(home, client)
    if run is None or run.mode != mode:
        return
    if run.lasting is None:
        _latest_path(home, client).unlink()
    else:
        write_latest_run(home, client, run.lasting)


def known_clients(home: Home) -> list[str]:
    """Every client with a folder or a wish, or whose processes a daemon was told to run: who moves a folder away has not ended
    what runs. Raises ConfigurationError for a folder that is no home."""
    running = {path.parent.name for path in paths_below(home.daemon / "specs", "*/*.json")} - RESERVED_CLIENTS
    with contextlib.suppress(StateError):  # what runs stands in the specifications as well
        running |= read_wishes(home).clients.keys()
    try:
        return sorted({*client_names(home), *running})
    except ConfigurationError:
        if not running:
            raise
        return sorted(running)


def clients_with_state(home: Home) -> list[str]:
    """Every known client, and every other of whom something is kept: what one holds is not gone with its folder. Raises
    ConfigurationError as `known_clients` does."""
    return sorted({*known_clients(home), *(path.name for path in paths_in(home.var / "clients") if path.is_dir())})


def latest_mode(home: Home, client: str) -> str:
    """The mode of `shown_mode`. Raises UsageError if the client is unknown or has never run."""
    mode = shown_mode(home, client)
    if mode is None:
        known = client_names(home)
        if client not in known:
            raise unknown_client(home, client, known)
        raise UsageError(f"{client}: expected a run to read from, found none; start it first")
    return mode


def shown_mode(home: Home, client: str) -> str | None:
    """The mode of the run that is under way, of the latest if none is; None if the client has never run. Raises StateError."""
    return running_mode(home, client) or _mode_of(read_latest_run(home, client))


def running_mode(home: Home, client: str) -> str | None:
    """The mode of the router that a daemon runs, or is to run; None if there is none. A backtest in between changes nothing."""
    try:
        return msgspec.json.decode(read_whole(home.daemon / "specs" / client / "router.json"), type=_Told).mode
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):  # and it runs all the same
        locks = paths_below(home.var / "clients" / client, "*/router/lock")
        return next((lock.parents[1].name for lock in locks if holder(lock.parent)), None)


def operated_mode(home: Home, client: str) -> str | None:
    """The mode of the run that holds what a person asks of a client's trading: the one under way, else the latest that the next
    one goes on with; None if there is none. Raises StateError."""
    return running_mode(home, client) or _mode_of(_lasting_run(home, client))


def _mode_of(run: Run | None) -> str | None:
    return run.mode if run else None


def _lasting_run(home: Home, client: str) -> Run | None:
    run = read_latest_run(home, client)
    return run.lasting if run and run.mode in _BEGUN_ANEW else run


def _latest_path(home: Home, client: str) -> Path:
    return home.var / "clients" / client / "latest.json"


@contextlib.contextmanager
def one_operator_at_a_time(home: Home) -> Iterator[None]:
    """Held while wishes, specs and the daemon's configuration change, so that two commands never mix their changes."""
    if not home.daemon.exists():
        client_names(home)  # raises for a folder that is no home, before anything is written into it
    for folder in (home.var, home.daemon):  # one by one: parents that mkdir makes get another mode
        folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(home.daemon / "operator.lock", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
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

"""The programs supervisord runs, and its configuration file made from them and the home's templates.

The same file runs under our daemon and under stock `supervisord -c FILE -n`. The digest of a program's spec lies in its
environment, so that a changed spec is a changed program and an unchanged one keeps its process.
"""

import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from string import Template
from typing import Literal

import msgspec

from strategy_runner.config.home import Home, checked_socket
from strategy_runner.errors import ConfigurationError, naming
from strategy_runner.pinned_environment import PINNED_ENVIRONMENT
from strategy_runner.small_files import replace_file

ENTRY_MODULE = "strategy_runner.assembly"
# knows supervisord, so it lies above what the other processes are put together from
WATCHDOG_MODULE = "strategy_runner.supervision.watchdog.agent"
SPEC_VARIABLE = "STRATEGY_RUNNER_SPEC"
LOG_VARIABLE = "STRATEGY_RUNNER_LOG"

Kind = Literal["watchdog", "feed", "oms", "router", "worker"]
# Lower numbers start first and stop last.
PRIORITIES: Mapping[Kind, int] = {"watchdog": 5, "feed": 10, "oms": 50, "router": 100, "worker": 500}
# They stop in the opposite order, but for who brings work and who watches it done: these go first with the last tier, or
# thousands that are to end would have to share the processors with what none of them is there for any more.
STOPPED_FIRST = frozenset({PRIORITIES["watchdog"], PRIORITIES["feed"]})

# Stock supervisord keeps three pipes for each child; our own daemon keeps none, and feed and router inherit the limit: they
# need up to two for each worker.
DESCRIPTORS_PER_PROGRAM = 3
DESCRIPTORS_SPARE = 1024
PROCESSES_SPARE = 64
# supervisord binds its socket as PATH.PID first; 4194304 is the largest process id Linux hands out
_SOCKET_SUFFIX = ".4194304"
# What its parser takes for a comment, a quote or the end of a value
FORBIDDEN_CHARACTERS = frozenset("\n\r;#\"'")


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """One program: `group:name`. `digest` is the spec's; `environment` is added to what every program gets."""

    group: str
    name: str
    kind: Kind
    spec: Path
    digest: str
    log: Path
    startsecs: int = 1
    startretries: int = 3
    stopwaitsecs: int = 10
    environment: dict[str, str] = {}

    @property
    def full_name(self) -> str:
        return f"{self.group}:{self.name}"

    @property
    def priority(self) -> int:
        return PRIORITIES[self.kind]


def configuration_path(home: Home) -> Path:
    return home.daemon / "supervisord.conf"


def write_configuration(
    home: Home, programs: Sequence[Program], *, python: str = sys.executable, entry: str = ENTRY_MODULE
) -> Path:
    """Render to HOME/var/daemon/supervisord.conf, whole or not at all, and make the folders it names."""
    text = render(home, programs, python=python, entry=entry)
    for folder in {home.daemon, home.sockets, *(program.log.parent for program in programs)}:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = configuration_path(home)
    with naming(path):
        replace_file(path, text.encode(), synced="nothing")
    return path


def render(home: Home, programs: Sequence[Program], *, python: str = sys.executable, entry: str = ENTRY_MODULE) -> str:
    """The text of supervisord.conf. Raises ConfigurationError for a missing or wrong template and an unusable path."""
    ordered = sorted(programs, key=lambda program: (program.group, program.priority, program.name))
    _refuse_duplicates(ordered)
    parts = [_filled(home.templates / "base.conf", _base_values(home, len(ordered)))]
    for group, members in groupby(ordered, key=lambda program: program.group):
        parts.append(_group_part(home, group, tuple(members), python, entry))
    return "\n".join(parts)


def digests(home: Home) -> dict[str, str]:
    """Of the specs that the programs of the configuration file were told to run by, by their names; none without a file."""
    try:
        text = configuration_path(home).read_text()
    except FileNotFoundError:
        return {}
    found = {}
    for section in text.split("\n[program:")[1:]:
        name, _, rest = section.partition("]")
        digest = re.search(f'{SPEC_VARIABLE}="([0-9a-f]*)"', rest)
        if digest is not None:
            found[name.replace(".", ":", 1)] = digest[1]
    return found


def check_templates(home: Home) -> None:
    """Raises ConfigurationError for what `render` refuses whatever runs: templates, and a path that supervisord cannot read."""
    render(home, (Program(group="example", name="example", kind="worker", spec=home.var, digest="", log=home.var),))


def check_sockets(home: Home, clients: Iterable[str]) -> Path:
    """The daemon's socket as it is bound, if its path, and those of the market's and these clients', are ones that a socket can
    have. Raises ConfigurationError."""
    bound = _bound_socket(home)
    for purpose in ("doorbell", "frames", "private"):
        home.market_endpoint(purpose)
    for client in clients:
        home.router_endpoint(client, "doorbell")
        home.oms_endpoint(client)
    return bound


def _bound_socket(home: Home) -> Path:
    return checked_socket(home.supervisor_socket.with_name(home.supervisor_socket.name + _SOCKET_SUFFIX))


def _group_part(home: Home, group: str, members: Sequence[Program], python: str, entry: str) -> str:
    values = {
        "group": group,
        "sections": ",".join(_section(program) for program in members),
        "priority": str(min(program.priority for program in members)),
    }
    template = home.templates / "program.conf"
    sections = [_filled(template, _program_values(home, program, python, entry)) for program in members]
    return "\n".join([_filled(home.templates / "group.conf", values), *sections])


def _base_values(home: Home, programs: int) -> dict[str, str]:
    _bound_socket(home)
    return {
        "socket": _value(home.supervisor_socket),
        "folder": _value(home.daemon),
        "minfds": str(DESCRIPTORS_SPARE + DESCRIPTORS_PER_PROGRAM * programs),
        "minprocs": str(PROCESSES_SPARE + programs),
    }


def _program_values(home: Home, program: Program, python: str, entry: str) -> dict[str, str]:
    environment = {
        **PINNED_ENVIRONMENT,
        **program.environment,
        SPEC_VARIABLE: program.digest,
        LOG_VARIABLE: str(program.log),
    }
    return {
        "section": _section(program),
        "name": program.name,
        "command": _command(python, "-m", WATCHDOG_MODULE if program.kind == "watchdog" else entry, program.spec),
        "folder": _value(home.root),
        # supervisord expands the names of logs twice
        "log": _value(program.log).replace("%", "%%"),
        "priority": str(program.priority),
        "startsecs": str(program.startsecs),
        "startretries": str(program.startretries),
        "stopwaitsecs": str(program.stopwaitsecs),
        "environment": ",".join(f'{name}="{_value(value)}"' for name, value in sorted(environment.items())),
    }


def _section(program: Program) -> str:
    """Sections of all groups share one name space; a client's name holds no dot, so this is unique."""
    return f"{program.group}.{program.name}"


def _value(value: Path | str) -> str:
    """The value as supervisord's parser reads it back."""
    return _readable(value).replace("%", "%%")


def _readable(value: Path | str) -> str:
    """The text itself, if supervisord can read it back: its parser has no escape for some characters."""
    text = str(value)
    found = sorted(FORBIDDEN_CHARACTERS & set(text))
    if found:
        raise ConfigurationError(f"{text!r}: expected none of {sorted(FORBIDDEN_CHARACTERS)}, found {found}")
    return text


def _command(*arguments: Path | str) -> str:
    return shlex.join([_readable(argument) for argument in arguments]).replace("%", "%%")


def _filled(path: Path, values: Mapping[str, str]) -> str:
    """The template with its names replaced. Its comments stay behind: a thousand copies would help nobody."""
    try:
        lines = path.read_text().splitlines(keepends=True)
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: expected a template for supervisord, found no such file") from None
    try:
        return Template("".join(line for line in lines if not line.startswith(";"))).substitute(values)
    except KeyError as unknown:
        raise ConfigurationError(f"{path}: expected one of {sorted(values)} after $, found {unknown}") from None
    except ValueError as fault:
        raise ConfigurationError(f"{path}: expected a $name or $$, found {fault}") from None


def _refuse_duplicates(ordered: Sequence[Program]) -> None:
    names = [program.full_name for program in ordered]
    twice = sorted({name for name, following in pairwise(names) if name == following})
    if twice:
        raise ConfigurationError(*(f"{name}: expected one program of this name, found more" for name in twice))

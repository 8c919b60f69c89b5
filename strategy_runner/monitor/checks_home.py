"""Checks of the home folder: permissions, version of the state, socket paths, specs, templates."""

import stat
from collections.abc import Iterator
from pathlib import Path

from strategy_runner.config.home import STATE_VERSION, Home
from strategy_runner.config.load import client_names
from strategy_runner.config.spec import WorkerSpec, read_spec
from strategy_runner.errors import ConfigurationError
from strategy_runner.monitor.finding import Finding, error, ok, warning
from strategy_runner.small_files import paths_below
from strategy_runner.strategies.kept_code import is_whole
from strategy_runner.supervision import programs

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def check_permissions(home: Home, user: int) -> list[Finding]:
    """Nobody but the owner may enter the state, the sockets or the daemon's folder: whoever can, can trade."""
    findings = []
    for path in _private(home):
        found = path.lstat()
        mode = stat.S_IMODE(found.st_mode)
        if found.st_uid != user:
            findings.append(
                error(
                    "permissions",
                    path,
                    f"owned by user {user}",
                    f"user {found.st_uid}",
                    f"chown -R {user} {path}, or run as its owner",
                )
            )
        elif mode & _OTHERS:
            findings.append(error("permissions", path, "mode 0700", f"mode {mode:04o}", f"chmod {'go-rwx'} {path}"))
    return findings or [ok("permissions", home.var, "open to its owner alone")]


def check_state_version(home: Home) -> list[Finding]:
    path = home.var / "VERSION"
    if not path.exists():
        return [ok("version", path, "no state yet")]
    found = path.read_text(errors="replace").strip()
    if found != str(STATE_VERSION):
        advice = f"go on with the release that wrote {home.var}, or move it away to begin anew"
        return [error("version", path, str(STATE_VERSION), repr(found), advice)]
    return [ok("version", path, found)]


def check_sockets(home: Home) -> list[Finding]:
    """Every socket's path must fit into what the kernel allows, also while supervisord binds it under a longer name."""
    try:
        longest = programs.check_sockets(home, client_names(home))
    except ConfigurationError as fault:
        return [error("sockets", home.sockets, "paths that fit", str(fault), "move the home to a shorter path")]
    return [ok("sockets", home.sockets, f"paths fit, the daemon's has {len(str(longest))} bytes")]


def check_specs(home: Home) -> list[Finding]:
    """What processes are told, as it was written last; the code that it names; the templates of supervisord's file."""
    findings, readable, elsewhere = [], 0, ""
    for path in paths_below(home.daemon / "specs", "*/*.json"):
        try:
            spec = read_spec(path)
        except ConfigurationError as fault:
            advice = "`strategy-runner apply` (or `up`) writes it anew"
            findings.append(error("specs", path, "a process specification", _after(path, str(fault)), advice))
        else:
            readable += 1
            if not spec.folder.startswith(f"{home.var}/"):
                elsewhere = spec.folder.rpartition("/var/")[0]
            elif isinstance(spec, WorkerSpec) and spec.code and not Path(spec.code).exists():
                advice = "`strategy-runner apply` (or `up`) keeps it again, or starts the worker with today's if that is another"
                findings.append(error("code", spec.code, f"the code of {spec.key.name}", "no file", advice))
    if elsewhere:
        advice = "nothing to do if it was copied or moved: `strategy-runner up` writes them anew"
        findings.append(warning("specs", home.daemon / "specs", "those of this home", f"those of {elsewhere}", advice))
    try:
        programs.check_templates(home)
    except (ConfigurationError, OSError) as fault:
        advice = "copy supervisor/ from `strategy-runner init` of a new folder"
        findings.append(error("templates", home.templates, "templates for supervisord", str(fault), advice))
    else:
        findings.append(ok("templates", home.templates, "complete"))
    return [ok("specs", home.daemon / "specs", f"{readable} readable"), *findings]


def check_code(home: Home) -> list[Finding]:
    """The clients' own code as it was kept when their workers were started."""
    findings = []
    kept = [path.parent for path in paths_below(home.code, "*/clients/*/admitted")]
    for folder in kept:
        if not is_whole(folder / "strategies"):
            advice = f"remove {folder}; `strategy-runner apply` (or `up`) keeps the client's code anew, if it is still the same"
            findings.append(error("code", folder, "the files as they were kept", "others", advice))
    return findings or [ok("code", home.code, f"{len(kept)} whole")]


def check_files(problems: list[str]) -> list[Finding]:
    """What the client files say that no plan can be made of; running processes go on as before."""
    advice = "`strategy-runner check` says more"
    return [warning("files", problem.partition(":")[0], "a valid file", problem, advice) for problem in problems]


def _private(home: Home) -> Iterator[Path]:
    yield from (path for path in (home.var, home.sockets, home.daemon) if path.exists())
    if home.sockets.exists():
        yield from sorted(path for path in home.sockets.iterdir() if stat.S_ISSOCK(path.lstat().st_mode))


def _after(path: Path, message: str) -> str:
    return message.removeprefix(f"{path}: ").removeprefix("expected a process specification, found: ")

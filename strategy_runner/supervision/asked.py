"""What a command line asks for: the clients that its targets name, and the wishes as they are with it."""

from collections.abc import Mapping, Sequence

import msgspec

from strategy_runner.config.home import Home
from strategy_runner.config.load import unknown_client
from strategy_runner.errors import SafetyRefusal, UsageError
from strategy_runner.supervision.plan_client import worker_keys
from strategy_runner.supervision.target import Target
from strategy_runner.supervision.wishes import Wish, Wishes, read_latest_run
from strategy_runner.supervision.written import Written


def clients_of(home: Home, targets: list[Target], known: list[str]) -> list[str]:
    """The clients among the known ones that targets name; raises UsageError for one that is not there."""
    named = [target.client for target in targets if target.client is not None]
    for client in named:
        if client not in known:
            raise unknown_client(home, client, known)
    return known if len(named) < len(targets) else sorted(set(named))


def wishes_started(
    home: Home, before: Wishes, clients: Sequence[str], targets: list[Target], wish: Wish, environ: Mapping[str, str]
) -> Wishes:
    """With these clients' targets running. Raises UsageError for a target that names no worker, ConfigurationError, SafetyRefusal
    for a client that runs in another way."""
    wishes = before
    for client in clients:
        wishes = _with_started(home, wishes, client, targets, wish, environ)
    return wishes


def wishes_stopped(
    home: Home,
    before: Wishes,
    clients: Sequence[str],
    targets: list[Target],
    written: Written,
    environ: Mapping[str, str],
) -> Wishes:
    """With these clients' targets stopped. Raises UsageError for a target that names no worker, ConfigurationError."""
    wishes = before
    for client in clients:
        workers = _known_workers(home, before, client, targets, written, environ)
        asked = before.clients.get(client)
        if asked is None:
            continue
        hit = {folder for folder in workers if any(t.matches(f"{client}:{folder}") for t in targets)}
        left = set(workers) - hit - set(asked.stopped)
        stopped = tuple(sorted(hit | set(asked.stopped)))
        wishes = wishes.with_client(client, msgspec.structs.replace(asked, stopped=stopped) if left else None)
    return wishes


# -- inside ------------------------------------------------------------------------------------------------------------


def _with_started(
    home: Home, wishes: Wishes, client: str, targets: list[Target], wish: Wish, environ: Mapping[str, str]
) -> Wishes:
    """The wishes with one client's targets running."""
    asked = wishes.clients.get(client)
    if asked is not None:
        _refuse_other_run(client, asked, wish)
        base = asked
    else:
        base = wish
    workers = _planned(home, wishes, client, base, environ)
    hit = {folder for folder in workers if any(target.matches(f"{client}:{folder}") for target in targets)}
    if not hit and not any(target.client is None or target.is_client for target in targets):
        raise UsageError(_unknown(client, targets, workers))
    before = set(base.stopped) if asked is not None else set(workers)
    return wishes.with_client(client, msgspec.structs.replace(base, stopped=tuple(sorted(before - hit))))


def _known_workers(
    home: Home, wishes: Wishes, client: str, targets: list[Target], written: Written, environ: Mapping[str, str]
) -> list[str]:
    """Folder names of a client's workers, as running or as planned; raises UsageError for a target that names none."""
    told = (name.partition(":") for name in written.names)  # damaged ones run as well
    running = {folder for group, _, folder in told if group == client} - {"router"}
    asked = wishes.clients.get(client)
    known = sorted({*running, *(asked.stopped if asked else ())})
    own = [target for target in targets if target.client == client and not target.is_client]
    if own and not any(target.matches(f"{client}:{folder}") for target in own for folder in known):
        planned = _planned(home, wishes, client, _last_wish(home, client), environ)
        if not any(target.matches(f"{client}:{folder}") for target in own for folder in planned):
            raise UsageError(_unknown(client, own, planned))
    return known


def _planned(home: Home, wishes: Wishes, client: str, wish: Wish, environ: Mapping[str, str]) -> list[str]:
    """Folder names of all workers that a client's file and a wish ask for."""
    return [key.folder for key in worker_keys(home, wishes.environment, client, wish, environ)]


def _last_wish(home: Home, client: str) -> Wish:
    run = read_latest_run(home, client)
    return run.wish if run else Wish()


def _unknown(client: str, targets: list[Target], workers: list[str]) -> str:
    asked = ", ".join(str(target) for target in targets if target.client in (client, None))
    return f"{asked}: expected a worker of {client}, one of {', '.join(workers) or 'none'}"


def _refuse_other_run(client: str, asked: Wish, wish: Wish) -> None:
    given = msgspec.structs.replace(wish, stopped=(), live=asked.live)
    running = msgspec.structs.replace(asked, stopped=())
    if given not in (Wish(live=asked.live), running):
        what = ", ".join(
            f"{name} {getattr(running, name)}"
            for name in ("mode", "history", "speed", "symbols")
            if getattr(running, name) not in (None, ())
        )
        raise SafetyRefusal(f"{client}: already runs with {what or 'the settings of its files'}; stop it first")

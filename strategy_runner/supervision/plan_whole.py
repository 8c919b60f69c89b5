"""The plan of what is whole: clients whose files can be planned come from these, all others stay as they were written."""

import contextlib
from collections.abc import Mapping, Sequence

from strategy_runner.config.home import Home
from strategy_runner.config.load import client_names
from strategy_runner.errors import ConfigurationError
from strategy_runner.supervision.plan import NOT_PLANNED, Plan, make_plan, problems_of
from strategy_runner.supervision.process import Process
from strategy_runner.supervision.stranded import refuse_other_books
from strategy_runner.supervision.wishes import Wishes
from strategy_runner.supervision.written import Written, still_wished

Problems = dict[str, tuple[str, ...]]  # by client


def plan_whole(home: Home, wishes: Wishes, written: Written, environ: Mapping[str, str]) -> tuple[Plan, Problems]:
    """All clients from their files; one of which no plan can be made, alone or beside the others, as it ran before, with its
    problems."""
    running = still_wished(home, wishes, written)
    whole, problems = _whole(home, wishes, list(wishes.clients), environ)
    if not whole:
        return running, problems
    try:
        if not problems:
            return make_plan(home, wishes, environ=environ), problems
        return _beside(home, wishes, whole, running, environ), problems
    except NOT_PLANNED:
        pass
    # each can run by itself, and not all together: beside what runs, whoever can does
    plan, fitting = running, list[str]()
    for client in whole:
        try:
            plan = _beside(home, wishes, [*fitting, client], running, environ)
            fitting.append(client)
        except NOT_PLANNED as error:
            problems[client] = problems_of(error)
    return plan, problems


def plan_of(home: Home, wishes: Wishes, clients: Sequence[str], written: Written, environ: Mapping[str, str]) -> Plan:
    """These clients from their files, all others as they run: what was edited since waits for `apply`."""
    running = still_wished(home, wishes, written)
    unwritten = wishes.clients.keys() - {_client(process) for process in running.processes} - {*clients}
    whole, _ = _whole(home, wishes, sorted(unwritten), environ)
    plan = _beside(home, wishes, [*clients, *whole], running, environ)
    refuse_other_books(home, [process for client in clients for process in plan.of_client(client)])
    return plan


def without_removed(home: Home, wishes: Wishes) -> Wishes:
    """Removing a client's folder removes the client. Where the folder of all is missing, that is a fault of the home."""
    with contextlib.suppress(ConfigurationError):
        for client in wishes.clients.keys() - set(client_names(home)):
            wishes = wishes.with_client(client, None)
    return wishes


def lines_of(problems: Problems) -> tuple[str, ...]:
    """Each once: of the home itself every client tells."""
    return tuple(dict.fromkeys(line for lines in problems.values() for line in lines))


# -- inside ------------------------------------------------------------------------------------------------------------


def _whole(
    home: Home, wishes: Wishes, clients: Sequence[str], environ: Mapping[str, str]
) -> tuple[list[str], Problems]:
    """Those of the clients of which a plan can be made, and the problems of the others."""
    whole, problems = [], Problems()
    for client in clients:
        try:
            made = make_plan(home, wishes, environ=environ, clients=[client])
            refuse_other_books(home, made.of_client(client))
            whole.append(client)
        except NOT_PLANNED as error:
            problems[client] = problems_of(error)
    return whole, problems


def _beside(home: Home, wishes: Wishes, fresh: Sequence[str], running: Plan, environ: Mapping[str, str]) -> Plan:
    """These clients from their files, beside the processes of all others as they were written."""
    kept = [process for process in running.processes if _client(process) not in fresh]
    return make_plan(home, wishes, environ=environ, clients=sorted(fresh), kept=kept)


def _client(process: Process) -> str:
    return process.name.partition(":")[0]

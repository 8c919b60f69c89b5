"""The plan: from configuration files and wishes to the processes that should run, each with its whole specification."""

from collections.abc import Mapping, Sequence

import msgspec

from strategy_runner.config.home import Home
from strategy_runner.config.load import load_environment
from strategy_runner.config.spec import WorkerSpec
from strategy_runner.errors import ConfigurationError, SafetyRefusal, StrategyRunnerError, UsageError
from strategy_runner.supervision.plan_client import client_processes
from strategy_runner.supervision.plan_feed import feed_process
from strategy_runner.supervision.plan_oms import oms_process
from strategy_runner.supervision.plan_watchdog import watchdog_process
from strategy_runner.supervision.process import Process, program_of
from strategy_runner.supervision.programs import Program
from strategy_runner.supervision.wishes import Wishes

# why no plan can be made of one client's files and wish: its own business, and no other client's
NOT_PLANNED = (ConfigurationError, SafetyRefusal, UsageError)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Every process that should run: the feed, the watchdog, the paper OMS, then by client the router and its workers."""

    processes: tuple[Process, ...]

    def programs(self, home: Home) -> list[Program]:
        return [program_of(home, process) for process in self.processes]

    def of_client(self, client: str) -> list[Process]:
        return [process for process in self.processes if process.name.startswith(f"{client}:")]

    def workers(self, client: str) -> list[WorkerSpec]:
        return [process.spec for process in self.of_client(client) if isinstance(process.spec, WorkerSpec)]


def make_plan(
    home: Home,
    wishes: Wishes,
    *,
    environ: Mapping[str, str],
    clients: Sequence[str] | None = None,
    kept: Sequence[Process] = (),
) -> Plan:
    """The processes that the wishes ask for: those of `clients` (all, if None) from their files, and `kept` as they are.

    Raises ConfigurationError with every problem of every file concerned, SafetyRefusal for what must not run, UsageError for a
    wish that names nothing of its client's files.
    """
    environment = load_environment(home, wishes.environment, environ=environ)
    problems: list[str] = []
    planned: list[Process] = []
    for client, wish in sorted(wishes.clients.items()):
        if clients is not None and client not in clients:
            continue
        try:
            planned.extend(client_processes(home, wishes.environment, client, wish, environ))
        except ConfigurationError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigurationError(*dict.fromkeys(problems))  # of the home itself each client tells
    feed = feed_process(home, environment, planned, kept, wishes, environ)
    oms = oms_process(home, environment, planned, kept, wishes, environ)
    others = [process for process in kept if process.kind in ("router", "worker")]
    by_client = sorted([*planned, *others], key=lambda process: process.name.partition(":")[0])
    watchdog = watchdog_process(home, environment.value, by_client)
    return Plan(processes=tuple(process for process in (feed, watchdog, oms, *by_client) if process is not None))


def problems_of(error: StrategyRunnerError) -> tuple[str, ...]:
    """One line for each."""
    return error.problems if isinstance(error, ConfigurationError) else (str(error),)

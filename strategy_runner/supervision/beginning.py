"""How a run begins: what it may not begin beside, and the empty folders that it begins with."""

from collections.abc import Collection
from contextlib import nullcontext, suppress
from pathlib import Path

import msgspec

from strategy_runner.config.home import Home
from strategy_runner.config.spec import FeedSpec, RouterSpec
from strategy_runner.errors import SafetyRefusal
from strategy_runner.model.names import FEED_NAME
from strategy_runner.supervision.historical import backtest_lock
from strategy_runner.supervision.plan import Plan
from strategy_runner.supervision.plan_oms import is_paper
from strategy_runner.supervision.process import HISTORICAL, SIMULATION
from strategy_runner.supervision.wishes import Run, Wishes, write_latest_run
from strategy_runner.supervision.written import Written


def refuse_late_comers(home: Home, before: Wishes, plan: Plan, written: Written) -> None:
    """A simulation under way cannot begin again for one more symbol, or one client's account, without doing so for all."""
    feed = next((p.spec for p in plan.processes if isinstance(p.spec, FeedSpec)), None)
    running = written.specs.get(FEED_NAME)
    if feed is None or feed.replay is None or not isinstance(running, FeedSpec) or running.mode != feed.mode:
        return
    missing = sorted(set(feed.streams) - set(running.streams))
    if missing:
        raise SafetyRefusal(
            f"the simulation of {', '.join(before.clients)} is under way without {', '.join(missing)}; "
            "stop it first and start all its clients in one command"
        )
    for router in _routers(plan):
        has_traded = (home.oms(SIMULATION) / router.client).exists()
        if is_paper(router.oms) and router.client not in before.clients and has_traded:
            raise SafetyRefusal(
                f"the simulation is under way, and the paper OMS has what {router.client} traded in it before; "
                "stop it first and start all its clients in one command"
            )


def refuse_beside_backtest(home: Home, before: Wishes, plan: Plan) -> None:
    """A run over history begins with empty folders, and may not be those of a backtest under way."""
    for router in _routers(plan):
        if router.mode == HISTORICAL and router.client not in before.clients:
            backtest_lock(home, router.client).release()


def finished_runs(home: Home, before: Wishes, plan: Plan, written: Written) -> list[Path]:
    """The folders of earlier runs that go: a simulation or historical run begins with empty ones. Nothing of them is running."""
    routers = _routers(plan)
    anew = [router for router in routers if router.mode in (SIMULATION, HISTORICAL)]
    folders = [home.client_state(one.client, one.mode) for one in anew if one.client not in before.clients]
    if FEED_NAME not in written.names and any(router.mode == SIMULATION for router in routers):
        folders += [home.market(SIMULATION), home.oms(SIMULATION)]
    return folders


def note_latest_runs(home: Home, wishes: Wishes, plan: Plan, asked: Collection[str]) -> None:
    """Raises OSError for a client that was asked for; what cannot be written of one that runs beside them stays as it is."""
    for router in _routers(plan):
        wish = msgspec.structs.replace(wishes.clients[router.client], stopped=())
        with nullcontext() if router.client in asked else suppress(OSError):
            write_latest_run(home, router.client, Run(mode=router.mode, wish=wish))


def _routers(plan: Plan) -> list[RouterSpec]:
    return [process.spec for process in plan.processes if isinstance(process.spec, RouterSpec)]

"""One planned process: its name, its whole specification, and the program supervisord makes of it."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from strategy_runner.config.availability import history_folder
from strategy_runner.config.home import Home
from strategy_runner.config.schema import EnvironmentConfig
from strategy_runner.config.spec import (
    MarketSpec,
    ModelProviderSpec,
    ReplaySpec,
    Spec,
)
from strategy_runner.config.times import moment
from strategy_runner.errors import ConfigurationError, UsageError
from strategy_runner.model.names import MARKET_GROUP, MONITOR_GROUP, OMS_GROUP
from strategy_runner.supervision.programs import Kind, Program
from strategy_runner.supervision.wishes import Wish

# what a running process takes over without a restart: a new worker changes them, and no other pid may change
RELOADED: Mapping[Kind, tuple[str, ...]] = {
    "watchdog": (),
    "feed": ("streams", "private"),
    "oms": ("endpoints", "instruments", "fills", "fills_by_symbol", "opening"),
    "router": ("workers", "freshness", "on_restart", "risk", "sizing", "instruments", "rates", "oms.accounts"),
    "worker": (),
}
HISTORICAL = "historical"
SIMULATION = "simulation"
LAST_LINES = 15  # of a log that are shown with what went wrong


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """One planned process and the file its specification goes to."""

    name: str
    kind: Kind
    spec: Spec
    path: Path

    @property
    def digest(self) -> str:
        """Over everything that needs a restart to change."""
        tree = lasting(self.kind, msgspec.to_builtins(self.spec))
        return hashlib.blake2b(msgspec.json.encode(tree, order="sorted"), digest_size=8).hexdigest()


def lasting(kind: Kind, tree: dict[str, Any]) -> dict[str, Any]:
    """A spec as builtins, without what is reloaded: what is left needs a restart to change."""
    kept = dict(tree)
    for path in RELOADED[kind]:
        field, _, part = path.partition(".")
        if not part:
            kept.pop(field, None)
        elif kept.get(field) is not None:
            kept[field] = {name: value for name, value in kept[field].items() if name != part}
    return kept


def new_process(home: Home, name: str, kind: Kind, spec: Spec) -> Process:
    group, _, rest = name.partition(":")
    return Process(name=name, kind=kind, spec=spec, path=home.daemon / "specs" / group / f"{rest}.json")


def program_of(home: Home, process: Process) -> Program:
    group, _, name = process.name.partition(":")
    assert group == MARKET_GROUP or process.kind != "feed"
    assert group == MONITOR_GROUP or process.kind != "watchdog"
    assert group == OMS_GROUP or process.kind != "oms"
    return Program(
        group=group,
        name=name,
        kind=process.kind,
        spec=process.path,
        digest=process.digest,
        log=home.log(process.name),
    )


def market_of(home: Home, mode: str) -> MarketSpec:
    return MarketSpec(
        tape=str(home.market(mode) / "tape"),
        doorbell=home.market_endpoint("doorbell"),
        frames=home.market_endpoint("frames"),
        private=home.market_endpoint("private"),
    )


def predictor_of(config: EnvironmentConfig) -> ModelProviderSpec:
    return ModelProviderSpec(provider=config.models.provider, seed=config.models.seed)


def replay_of(home: Home, config: EnvironmentConfig, wish: Wish) -> ReplaySpec:
    folder = history_folder(home, config)
    assert folder is not None, "availability was checked before"
    if not folder.is_dir():
        where = "--history" if wish.history else "history.folder"
        raise ConfigurationError(f"{where}: expected a folder of recorded history, found nothing at {folder}")
    if wish.from_ns and wish.to_ns and wish.to_ns <= wish.from_ns:
        raise UsageError(f"--to: expected a moment after {moment(wish.from_ns)}, found {moment(wish.to_ns)}")
    return ReplaySpec(folder=str(folder), speed=wish.speed or 0.0, from_ns=wish.from_ns, to_ns=wish.to_ns)


def last_lines(log: Path, *, begin: int = 0) -> str:
    """`begin` is the byte before which nothing is shown."""
    try:
        return "\n".join(log.read_bytes()[begin:].decode(errors="replace").splitlines()[-LAST_LINES:])
    except FileNotFoundError:
        return "(no log yet)"

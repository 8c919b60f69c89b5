"""What separates a plan from the processes as they were told to run, and what `apply` would do about it."""

import msgspec

from strategy_runner.config.spec import Spec
from strategy_runner.supervision.plan import Plan
from strategy_runner.supervision.process import Process, lasting
from strategy_runner.supervision.written import Written

DIFFERENCES_MAX = 8
_FOLLOWING = ("generation", "code", "freshness")


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """What apply would do with one process, and why."""

    name: str
    action: str
    reason: str


def differences(plan: Plan, written: Written) -> list[Difference]:
    planned = {process.name: process for process in plan.processes}
    found = [
        _of_process(
            process,
            written.specs.get(name),
            "what it was told is unreadable" if name in written.damaged else "not running yet",
        )
        for name, process in planned.items()
    ]
    gone = sorted(written.names - planned.keys())
    return found + [Difference(name=name, action="stop", reason="no longer in the plan") for name in gone]


def _of_process(process: Process, written: Spec | None, otherwise: str) -> Difference:
    """`otherwise` is why there is nothing written to compare with."""
    if written is None:
        return Difference(name=process.name, action="start", reason=otherwise)
    old, new = msgspec.to_builtins(written), msgspec.to_builtins(process.spec)
    differing = [key for key in new if old.get(key) != new[key]]
    if not differing:
        return Difference(name=process.name, action="keep", reason="")
    # the generation follows from the rest; without more, it and where the code is kept say that code or versions are others
    told = [_told(key, old.get(key), new[key]) for key in differing if key not in _FOLLOWING]
    if "freshness" in differing:
        told += _changed_limits(old["freshness"], new["freshness"])
    reason = "; ".join(told) or "the strategy's code, or the version of what runs it"
    reloads = lasting(process.kind, old) == lasting(process.kind, new)
    return Difference(name=process.name, action="reload" if reloads else "restart", reason=reason)


def _told(key: str, old: object, new: object) -> str:
    """Of two lists what came and what went, and of two tables which keys, since both together are too long to read."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [name for name in {**old, **new} if old.get(name) != new.get(name)]
        if 0 < len(keys) <= DIFFERENCES_MAX:
            return "; ".join(_told(f"{key}.{name}", old.get(name), new.get(name)) for name in keys)
    if isinstance(old, list | tuple) and isinstance(new, list | tuple):
        changed = [f"+{_short(one)}" for one in new if one not in old]
        changed += [f"-{_short(one)}" for one in old if one not in new]
        if 0 < len(changed) <= DIFFERENCES_MAX:
            return f"{key}: {' '.join(changed)}"
    return f"{key}: {_short(old)} -> {_short(new)}"


def _changed_limits(old: dict[str, dict[str, object]], new: dict[str, dict[str, object]]) -> list[str]:
    """Limits by worker: of those who stay, each change once. Who comes and who goes is told by another key."""
    stay = [(old[worker], limits) for worker, limits in new.items() if worker in old]
    changes = (
        f"{key}: {_short(before[key])} -> {_short(value)}"
        for before, limits in stay
        for key, value in limits.items()
        if before[key] != value
    )
    return list(dict.fromkeys(changes))


def _short(value: object) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 60 else f"{text[:57]}..."

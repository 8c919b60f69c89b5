"""What the watchdog sees and did: conditions that hold now (conditions.json) and a log of its actions (actions.log).

`status`, `doctor` and the metrics read these files; the watchdog serves nothing.
"""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from strategy_runner.config.home import Home
from strategy_runner.config.times import duration
from strategy_runner.errors import CorruptRecordError, VersionMismatchError
from strategy_runner.small_files import read_whole, replace_file
from strategy_runner.tape.logs import AppendLog, read_log

ConditionKind = Literal[
    "restarted",  # by the watchdog, lately
    "restarts",  # again and again, by itself
    "given up",  # by supervisord
    "stuck",  # no progress, and a kill would not help
    "blocked",  # it says itself why it cannot go on
    "over cpu_limit",
    "floods",  # its log
    "stale",  # a feed that is silent, a symbol without records
]
ActionKind = Literal["killed", "slowed", "released", "rotated", "tried again"]
ACTIONS_BYTES_MAX = 16 * 1024 * 1024


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is so with a process. `subject` tells several of one kind apart, such as the symbols of a feed."""

    kind: ConditionKind
    subject: str = ""
    reason: str
    since_ns: int

    def told(self, now_ns: int) -> str:
        """For a person, with its age."""
        age = duration(now_ns - self.since_ns)
        if self.kind == "restarted":
            return f"restarted by the watchdog {age} ago: {self.reason}"
        return f"{self.reason} (for {age})"


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """One thing the watchdog did."""

    at_ns: int
    name: str
    pid: int
    action: ActionKind
    reason: str


_Key = tuple[str, ConditionKind, str]


class Board:
    """The conditions that hold, by process; written when one came or went. `restarted` ones go by themselves."""

    def __init__(self, folder: Path) -> None:
        self._path = conditions_path(folder)
        self._held: dict[_Key, Condition] = {}
        self._changed = True
        for name, conditions in read_conditions(folder).items():
            for one in conditions:
                if one.kind == "restarted":  # all others are found again if they still hold
                    self._held[name, one.kind, one.subject] = one

    def show(self, name: str, kind: ConditionKind, reason: str, *, subject: str = "", since_ns: int = 0) -> None:
        """Holds from now on, or since the time given; what holds already keeps its time and its first reason.

        A restart is a thing of the moment: the last one counts.
        """
        key = (name, kind, subject)
        if kind == "restarted" or key not in self._held:
            since_ns = since_ns or time.time_ns()
            self._held[key] = Condition(kind=kind, subject=subject, reason=reason, since_ns=since_ns)
            self._changed = True

    def show_all(self, name: str, kind: ConditionKind, found: Mapping[str, tuple[str, int]]) -> None:
        """All of one kind that hold, (reason, since_ns) by subject; what is not among them ends."""
        for subject, (reason, since_ns) in found.items():
            self.show(name, kind, reason, subject=subject, since_ns=since_ns)
        for key in [key for key in self._held if key[:2] == (name, kind) and key[2] not in found]:
            self.clear(*key)

    def clear(self, name: str, kind: ConditionKind, subject: str = "") -> None:
        """Most of the time there is nothing to clear, and it is asked thousands of times."""
        if self._held and self._held.pop((name, kind, subject), None) is not None:
            self._changed = True

    def forget(self, name: str) -> None:
        """The plan has no such process any more."""
        for key in [key for key in self._held if key[0] == name]:
            self.clear(*key)

    def expire(self, kind: ConditionKind, before_ns: int) -> None:
        """Ends what began before a moment."""
        for key, one in list(self._held.items()):
            if one.kind == kind and one.since_ns < before_ns:
                self.clear(*key)

    def write(self) -> None:
        """Whole or not at all, and only if something changed. Raises OSError, and then tries again the next time."""
        if not self._changed:
            return
        by_name: dict[str, list[Condition]] = {}
        for (name, _, _), one in sorted(self._held.items()):
            by_name.setdefault(name, []).append(one)
        replace_file(self._path, msgspec.json.format(msgspec.json.encode(by_name)), synced="nothing")
        self._changed = False


class ActionLog:
    """The watchdog's side of the log of actions. At its limit it begins anew and keeps one older file."""

    def __init__(self, folder: Path) -> None:
        path = actions_path(folder)
        if path.exists() and path.stat().st_size > ACTIONS_BYTES_MAX:
            path.replace(path.with_suffix(".log.1"))
        try:
            self._log = AppendLog(path)
        except (CorruptRecordError, VersionMismatchError):
            # nothing rests on it: a damaged log of actions must not end the watchdog
            path.replace(path.with_suffix(".log.1"))
            self._log = AppendLog(path)

    def append(self, action: Action) -> None:
        self._log.append(msgspec.msgpack.encode(action))

    def close(self) -> None:
        self._log.close()


def read_conditions(folder: Path) -> dict[str, list[Condition]]:
    """By process name; empty if there is no such file, or one that cannot be read."""
    try:
        return msgspec.json.decode(read_whole(conditions_path(folder)), type=dict[str, list[Condition]])
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
        return {}


def read_actions(home: Home) -> Iterator[Action]:
    """All that are kept in the log, the oldest first. Raises CorruptRecordError, VersionMismatchError."""
    for payload in read_log(actions_path(home.monitor)):
        yield msgspec.msgpack.decode(payload, type=Action)


def conditions_path(folder: Path) -> Path:
    return folder / "conditions.json"


def actions_path(folder: Path) -> Path:
    return folder / "actions.log"

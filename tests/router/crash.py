"""A router that dies at its n-th step, in this process: a step is a write, a sync, or a call of the OMS.

From then on every step of every thread fails, so nothing that the dead one meant to do is done. With the power it loses what
it had not synced.
"""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from strategy_runner.oms.interface import Oms
from strategy_runner.router import note
from strategy_runner.tape.logs import AppendLog

_CALLS = ("submit", "modify", "cancel", "query", "open_orders", "positions", "events")


class Killed(BaseException):
    """What no code catches."""


class Crash:
    """Counts the steps; kills before or after the step `at`, if any."""

    def __init__(self, at: int | None = None, *, after: bool = False) -> None:
        self.steps: list[str] = []
        self.happened = threading.Event()
        self.written: set[Path] = set()
        self._synced: dict[Path, int] = {}
        self._at = at
        self._after = after
        self._lock = threading.Lock()

    def step(self, name: str, do: Any, *arguments: Any) -> Any:
        with self._lock:
            if self.happened.is_set():
                raise Killed
            is_last = len(self.steps) == self._at
            self.steps.append(name)
            if is_last and not self._after:
                self.happened.set()
                raise Killed
            if is_last:
                try:
                    return do(*arguments)
                finally:
                    self.happened.set()
                    raise Killed
        return do(*arguments)

    def sync(self, log: AppendLog, sync: Any) -> None:
        end = log.offset
        self.step(f"sync {log.path.name}", sync, log)
        self._synced[log.path] = end

    def cut_power(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Takes from each log what its owner has not synced; it is another boot from then on."""
        for module in ("risk_record", "journal", "audit"):
            monkeypatch.setattr(f"strategy_runner.router.{module}.this_boot", lambda: 2)
        for path in self.written:
            if path.exists():
                os.truncate(path, self._synced.get(path, 0))


class CrashingOms:
    """An Oms each of whose calls is a step; those that found nothing to tell are none."""

    def __init__(self, oms: Oms, crash: Crash) -> None:
        self._oms = oms
        self._crash = crash

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._oms, name)
        if name not in _CALLS:
            return call

        def stepping(*arguments: Any) -> Any:
            return self._crash.step(name, call, *arguments)

        return stepping


@contextmanager
def crashing(crash: Crash, monkeypatch: pytest.MonkeyPatch, others: Sequence[type] = ()) -> Iterator[None]:
    """Every log of this process but the venue's is written in steps of `crash`."""
    append, sync, write = AppendLog.append_many, AppendLog.sync, note.write_note

    def is_ours(log: AppendLog) -> bool:
        return log.path.name != "venue.log" and "workers" not in log.path.parts

    def append_many(log: AppendLog, payloads: Any) -> int:
        if not is_ours(log):
            return append(log, payloads)
        crash.written.add(log.path)
        offset: int = crash.step(f"append {log.path.name}", append, log, payloads)
        return offset

    def synced(log: AppendLog) -> None:
        if not is_ours(log):
            sync(log)
        else:
            crash.sync(log, sync)

    with monkeypatch.context() as patch:
        patch.setattr(AppendLog, "append_many", append_many)
        patch.setattr(AppendLog, "sync", synced)
        for module in ("risk_record", "order_journal", "journal"):
            patch.setattr(
                f"strategy_runner.router.{module}.write_note",
                lambda *arguments: crash.step("note", write, *arguments),
            )
        yield

"""What is done to a home, and when: chosen by a seed, so that a run can be had again as far as its faults go.

The exact interleaving with the product's own steps cannot be repeated; a seed that found something finds it again soon.
"""

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping

from faults.clock import set_clock
from faults.home import FaultyHome, send, until
from faults.power import Power

from strategy_runner.model.names import FEED_NAME, OMS_NAME, WATCHDOG_NAME

PAUSE_S = (0.02, 0.25)
STOPPED_S = (0.05, 0.6)
UP_DECISIONS = (
    12  # so many new ones after a power cut before the next fault: else it would meet a home where nothing happens
)
# how often each is chosen; a power cut and the daemon's end take all processes with them
WEIGHTS = {
    "kill feed": 14,
    "kill router": 16,
    "kill oms": 12,
    "kill worker": 34,
    "kill watchdog": 3,
    "kill zygote": 3,
    "kill daemon": 3,
    "kill all": 3,
    "kill in start-up": 6,
    "stop feed": 4,
    "stop router": 4,
    "stop oms": 3,
    "stop worker": 8,
    "stop daemon": 2,
    "set clock": 5,
}
HOUR_NS = 3_600 * 10**9
CLOCKS_NS = (
    0,
    HOUR_NS,
    -HOUR_NS,
    24 * HOUR_NS,
    -24 * HOUR_NS,
)  # ahead of the true time; a host that boots has it again
_KINDS = {"feed": FEED_NAME, "oms": OMS_NAME, "watchdog": WATCHDOG_NAME}


class Injection:
    """Injects faults into a running home. `count` is by kind, `log` says in order what was done."""

    def __init__(self, home: FaultyHome, seed: int, weights: Mapping[str, int] = WEIGHTS) -> None:
        self._home = home
        self._weights = weights
        self._luck = random.Random(f"faults {seed}")
        self._power = Power(home, random.Random(f"power {seed}"))
        self._stopped: list[tuple[float, int]] = []
        self._began = time.monotonic()
        self.count: Counter[str] = Counter()
        self.log: list[str] = []

    @property
    def kills(self) -> int:
        return sum(count for kind, count in self.count.items() if kind.startswith("kill"))

    def await_life(self) -> None:
        """Until new signals are decided."""
        before = until(lambda: self._home.decided() or 0, "decisions")
        until(lambda: self._home.decided() >= before + UP_DECISIONS, "new decisions")

    def run(self, *, kills: int, cuts: int, tell: Callable[[], None] = lambda: None) -> None:
        """So many kills (and with them some stops), and so many power cuts spread among them."""
        at = sorted(self._luck.randrange(max(kills, 1)) for _ in range(cuts))
        while self.kills < kills or at:
            if at and self.kills >= at[0]:
                at.pop(0)
                self.cut_power()
            else:
                kind = self._luck.choices(list(self._weights), list(self._weights.values()))[0]
                self._inject(kind)
            tell()
            self._pause(self._luck.uniform(*PAUSE_S))
        self._continue_all()

    def cut_power(self) -> None:
        self._continue_all()
        self._home.kill_all()
        self._note("power cut", "; ".join(self._power.cut()))
        set_clock(self._home.watched, 0)
        self._home.start()
        self.await_life()

    # -- one fault -------------------------------------------------------------------------------------------------------

    def _inject(self, kind: str) -> None:
        verb, _, whom = kind.partition(" ")
        if whom == "daemon" and verb == "kill":
            self._kill_daemon(kind)
        elif whom == "daemon":
            self._stop(kind, self._home.daemon.pid if self._home.daemon else 0)
        elif verb == "set":
            ahead_ns = self._luck.choice(CLOCKS_NS)
            set_clock(self._home.watched, ahead_ns)
            self._note(kind, f"{ahead_ns / HOUR_NS:+g} h")
        elif whom == "all":
            self._home.kill_all()
            self._note(kind)
            self._home.start()
        elif whom == "in start-up":
            self._kill_in_start_up(kind)
        else:
            pid = self._choose(whom)
            if pid and verb == "kill" and send(pid, signal.SIGKILL):
                self._note(kind)
            elif pid and verb == "stop":
                self._stop(kind, pid)

    def _choose(self, whom: str) -> int | None:
        if whom == "zygote":
            return self._home.zygote()
        pids = self._home.pids()
        if whom in _KINDS:
            return pids.get(_KINDS[whom])
        names = sorted(
            name for name in pids if name.endswith(":router") == (whom == "router") and name not in _KINDS.values()
        )
        return pids[self._luck.choice(names)] if names else None

    def _kill_daemon(self, kind: str) -> None:
        """As systemd does when its main process dies: it is started again, and what it left is no more."""
        daemon = self._home.daemon
        assert daemon is not None
        self._continue_all()
        daemon.kill()
        daemon.wait()
        self._note(kind)
        self._home.start()

    def _kill_in_start_up(self, kind: str) -> None:
        """The same program twice: again as soon as there is a new process, and a moment into its life."""
        pids = self._home.pids()
        if not pids:
            return
        name = self._luck.choice(sorted(pids))
        if not send(pids[name], signal.SIGKILL):
            return
        again = until(lambda: _other(self._home.pids().get(name), pids[name]), f"a new process for {name}")
        time.sleep(self._luck.uniform(0.0, 0.1))
        if send(again, signal.SIGKILL):
            self._note(kind, name)

    def _stop(self, kind: str, pid: int) -> None:
        if send(pid, signal.SIGSTOP):
            self._stopped.append((time.monotonic() + self._luck.uniform(*STOPPED_S), pid))
            self._note(kind)
            if kind == "stop daemon":  # nobody can be asked for pids meanwhile
                self._pause(self._stopped[-1][0] - time.monotonic())

    # -- time ------------------------------------------------------------------------------------------------------------

    def _pause(self, seconds: float) -> None:
        """Waits, lets go on what was stopped long enough, and looks at pages that a power cut may bring back."""
        until_s = time.monotonic() + seconds
        while True:
            now = time.monotonic()
            due = [pid for at_s, pid in self._stopped if at_s <= now]
            self._stopped = [(at_s, pid) for at_s, pid in self._stopped if at_s > now]
            for pid in due:
                send(pid, signal.SIGCONT)
            if now >= until_s:
                break
            next_s = min([until_s, *(at_s for at_s, _ in self._stopped)])
            time.sleep(max(0.0, next_s - now))
        self._power.sample()

    def _continue_all(self) -> None:
        for _, pid in self._stopped:
            send(pid, signal.SIGCONT)
        self._stopped.clear()

    def _note(self, kind: str, more: str = "") -> None:
        self.count[kind] += 1
        self.log.append(f"{time.monotonic() - self._began:8.3f} s  {kind}  {more}".rstrip())


def _other(pid: int | None, old: int) -> int | None:
    return pid if pid != old else None

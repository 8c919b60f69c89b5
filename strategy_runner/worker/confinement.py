"""What the kernel lets a worker use, set before any strategy code is loaded, and before whom, set before anything else.

A strategy that leaks gets a MemoryError at a record, an error like any other, long before the host is short of memory. The
limit is on private memory (RLIMIT_DATA). The address space (RLIMIT_AS) would be the wrong thing to limit: a worker maps
segments of the tape, which all workers share, and one that catches up would seem to use gigabytes.
"""

import mmap
import os
import resource
from contextlib import suppress
from pathlib import Path

from strategy_runner.errors import StrategyError
from strategy_runner.small_files import read_whole

OWN_MB = 24  # turns, signals on their way, a snapshot being written: beside it a small limit is all the strategy's
RESERVE_MB = 8
# Nice steps below feed, routers and OMS, for which all workers wait. With eight steps less the feed, which needs a third of a
# core for 20,000 events a second, gets less than that beside a thousand workers that can all run.
BELOW_OTHERS = 28
NICE_MAX = 8  # also where those run at 0: what else the host does is not to starve workers
DESCRIPTORS_MAX = 1_024  # one for each mapped chunk and segment, stream and socket; a leak ends here
_MB = 1 << 20
_MEMORY = Path("/proc/self/statm")
_CHOSEN_BY = Path("/proc/self/oom_score_adj")


class Confinement:
    """Holds for the rest of the process's life. Limits that are lower already stay."""

    def __init__(self, memory_limit_mb: int, *, own_mb: int = OWN_MB) -> None:
        """Private memory: what the process has now and so much more. `own_mb` is what this product itself may need."""
        self._memory_limit_mb = memory_limit_mb
        # a mapping that is never touched costs nothing but its place in the count (a bytearray would clear all of it)
        self._reserve = mmap.mmap(-1, RESERVE_MB * _MB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        _limit(resource.RLIMIT_DATA, private_bytes() + (memory_limit_mb + own_mb) * _MB)
        _limit(resource.RLIMIT_NOFILE, DESCRIPTORS_MAX)
        _limit(resource.RLIMIT_CORE, 0)

    def make_room(self) -> None:
        """For the last words of a process whose strategy has taken all there was."""
        self._reserve.close()

    def out_of_memory(self) -> StrategyError:
        """What a MemoryError means here, with room made for saying so."""
        self.make_room()
        return StrategyError(
            f"memory: expected at most {self._memory_limit_mb} MB (limits.memory_limit_mb), found more needed"
        )


def give_way(steps: int = BELOW_OTHERS) -> None:
    """Lets those go first for whom all workers wait; at once, or a thousand that start would go before those that trade."""
    own = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, 0, max(own, min(own + steps, NICE_MAX)))
    # where the host is out of memory too: the daemon's OOMScoreAdjust= is not theirs
    with suppress(OSError):  # where there is none, nobody is chosen by it
        if int(read_whole(_CHOSEN_BY)) < 0:
            _CHOSEN_BY.write_text("0")


def private_bytes() -> int:
    """What RLIMIT_DATA counts: private writable memory of this process, touched or not; and its stack, which is small."""
    return int(read_whole(_MEMORY).split()[5]) * mmap.PAGESIZE


def _limit(which: int, most: int) -> None:
    """Both limits: what is allowed to raise its own is not limited."""
    for held in resource.getrlimit(which):
        if held != resource.RLIM_INFINITY:
            most = min(most, held)
    resource.setrlimit(which, (most, most))

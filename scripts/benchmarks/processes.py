"""What the kernel says of processes: proportional memory, processor time, wakes, children."""

from collections.abc import Iterable
from pathlib import Path


def pss_mb(pid: int) -> float:
    """Proportional set size: a page that so many processes share counts for each by that share."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024.0
    raise ValueError(f"/proc/{pid}/smaps_rollup: expected a line Pss, found none")


def processor_s(pids: Iterable[int]) -> float:
    """Seconds on a processor of all threads so far, to the nanosecond."""
    tasks = [task for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def wakes(pid: int) -> int:
    """How often the process's own thread has waited and been woken so far (voluntary context switches)."""
    for line in Path(f"/proc/{pid}/task/{pid}/status").read_text().splitlines():
        if line.startswith("voluntary_ctxt_switches:"):
            return int(line.split()[1])
    raise ValueError(f"/proc/{pid}/task/{pid}/status: expected a line voluntary_ctxt_switches, found none")


def children(parent: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == parent and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found

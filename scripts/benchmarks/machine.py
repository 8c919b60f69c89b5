"""The machine a run was made on, in one line: a figure means nothing without it."""

import os
import platform
from pathlib import Path


def describe_machine() -> str:
    """Processor, cores, memory, kernel, Python, and how busy the machine is now."""
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{os.cpu_count()} x {_processor()}, {memory_gb:.0f} GB, Linux {platform.release()}, "
        f"{platform.python_implementation()} {platform.python_version()}, load average {load}"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()

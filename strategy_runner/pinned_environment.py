"""The environment of every process of ours. The command looks at it before all else, so this module loads nothing."""

from collections.abc import Mapping

# One thread a process: a thousand BLAS pools would fight for the cores, and a pool does not survive a fork.
PINNED_ENVIRONMENT: Mapping[str, str] = {
    "PYTHONHASHSEED": "0",
    "TZ": "UTC",  # what a strategy takes for a local time is the same on every host, and all logs tell one time
    "MALLOC_ARENA_MAX": "1",  # a ZeroMQ thread needs no heap of its own
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}

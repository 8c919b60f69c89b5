"""What tests of several packages share."""

import contextlib
import gc
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from strategy_runner.bus.context import Context, new_context

# how long an example takes says how busy the machine is
settings.register_profile("strategy-runner", deadline=None)
settings.load_profile("strategy-runner")


# of one process, which runs hundreds of files and may open 1,024
DESCRIPTORS_OF_A_FILE_MAX = 40


@pytest.fixture(scope="module", autouse=True)
def _descriptors() -> Iterator[None]:
    """What a file of tests opens it closes, or lets go of, but for what lives as long as the process."""
    before = _open_descriptors()
    yield
    left = (_open_descriptors() - before).total()
    if left > DESCRIPTORS_OF_A_FILE_MAX:
        gc.collect()
        left = (_open_descriptors() - before).total()
    assert left <= DESCRIPTORS_OF_A_FILE_MAX, f"{left} left open, such as {list(_open_descriptors() - before)[:5]}"


@pytest.fixture
def context() -> Iterator[Context]:
    """For sockets of ZeroMQ's own; those that a failed test left open end with it."""
    context = new_context()
    yield context
    context.destroy(linger=0)


def _open_descriptors() -> "Counter[str]":
    found: Counter[str] = Counter()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found[str(descriptor.readlink())] += 1
    return found


@pytest.fixture(scope="session")
def recorded_data() -> Path:
    """The folder of real recorded market data: STRATEGY_RUNNER_DATA, else ../shared/data beside the checkout."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("STRATEGY_RUNNER_DATA") or beside)
    if not (folder / "README.md").is_file():
        pytest.skip(f"no recorded market data in {folder}; set STRATEGY_RUNNER_DATA to run this test")
    return folder

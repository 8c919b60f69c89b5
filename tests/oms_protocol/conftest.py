"""What the tests of the OMS protocol share: a context, a folder with a short path, an order."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from strategy_runner.bus.context import Context, new_context


@pytest.fixture
def context() -> Iterator[Context]:
    context = new_context()
    yield context
    context.destroy(linger=0)


@pytest.fixture
def folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="sr", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)

"""What the tests of the OMS protocol share: a folder with a short path, an order."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="sr", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)

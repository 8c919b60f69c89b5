from collections.abc import Iterator
from pathlib import Path

import pytest
from worker.build import short_folder


@pytest.fixture
def root() -> Iterator[Path]:
    with short_folder() as path:
        yield path

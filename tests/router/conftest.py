from collections.abc import Iterator
from pathlib import Path

import pytest
from worker.build import short_folder
from worker.processes import Processes, processes_in


@pytest.fixture
def root() -> Iterator[Path]:
    with short_folder() as path:
        yield path


@pytest.fixture
def processes(root: Path) -> Iterator[Processes]:
    with processes_in(root) as started:
        yield started

from collections.abc import Iterator
from pathlib import Path

import pytest
from worker.build import Followers, short_folder
from worker.processes import Processes, processes_in


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as path:
        yield path


@pytest.fixture
def followers() -> Iterator[Followers]:
    made = Followers()
    yield made
    made.close()


@pytest.fixture
def processes(folder: Path) -> Iterator[Processes]:
    with processes_in(folder) as started:
        yield started

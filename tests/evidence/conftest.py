"""One recorded run for all tests of this folder; a test that damages something takes a copy."""

from collections.abc import Iterator

import pytest
from end_to_end.harness import Firm
from evidence.recorded_run import copied, killed_run


@pytest.fixture(scope="session")
def recorded() -> Iterator[Firm]:
    with killed_run() as firm:
        yield firm


@pytest.fixture
def damaged(recorded: Firm) -> Iterator[Firm]:
    with copied(recorded) as firm:
        yield firm

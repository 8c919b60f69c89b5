"""A firm for a single test."""

from collections.abc import Iterator

import pytest
from end_to_end.harness import Firm


@pytest.fixture
def firm() -> Iterator[Firm]:
    with Firm() as firm:
        yield firm

"""What single tests need: a firm, and choices that can be repeated."""

import os
import random
from collections.abc import Iterator

import pytest
from end_to_end.harness import Firm


@pytest.fixture
def firm() -> Iterator[Firm]:
    with Firm() as firm:
        yield firm


@pytest.fixture
def luck() -> random.Random:
    seed = int(os.environ.get("STRATEGY_RUNNER_SEED") or random.SystemRandom().randrange(2**32))
    print(f"STRATEGY_RUNNER_SEED={seed} repeats the choices of this run")
    return random.Random(seed)

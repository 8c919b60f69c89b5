"""What tests of several packages share."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# how long an example takes says how busy the machine is
settings.register_profile("strategy-runner", deadline=None)
settings.load_profile("strategy-runner")


@pytest.fixture(scope="session")
def recorded_data() -> Path:
    """The folder of real recorded market data: STRATEGY_RUNNER_DATA, else ../shared/data beside the checkout."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("STRATEGY_RUNNER_DATA") or beside)
    if not (folder / "README.md").is_file():
        pytest.skip(f"no recorded market data in {folder}; set STRATEGY_RUNNER_DATA to run this test")
    return folder

from collections.abc import Iterator

import pytest
from fleet_home import REPOSITORY, FleetHome


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Iterator[FleetHome]:
    """A home in /tmp whose daemon, when started, knows the module of the tests' programs."""
    monkeypatch.setenv("PYTHONPATH", f"{REPOSITORY / 'tests' / 'supervision'}:{REPOSITORY}")
    fleet = FleetHome()
    yield fleet
    fleet.close()

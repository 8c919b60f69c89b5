"""A number of things has the word of one, or of several."""

import pytest

from strategy_runner.model.counted import counted


@pytest.mark.parametrize(
    ("count", "what", "said"),
    [
        (0, "record", "0 records"),
        (1, "record", "1 record"),
        (2, "record", "2 records"),
        (1, "entry", "1 entry"),
        (2, "entry", "2 entries"),
        (1, "process", "1 process"),
        (12, "process", "12 processes"),
    ],
)
def test_one_is_told_from_several(count: int, what: str, said: str) -> None:
    assert counted(count, what) == said

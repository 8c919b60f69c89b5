"""A fault at the n-th system call of a kind, in each of three processes: they go on or are started again, and all is well."""

import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from faults.crash import CALLS, NEVER_FULL, WAYS
from faults.home import FaultyHome, Stuck
from faults.trio import ROLES, Trio

pytestmark = pytest.mark.timeout(900)  # of a machine that many others use; alone it is a tenth of that
RECORDS = 2_000
CASES = 6  # of all there are, by the seed
NUMBERS = 20  # calls of each kind in the long form
AT_A_TIME = 2


def all_cases(luck: random.Random) -> list[tuple[str, str]]:
    """(role, step) for each call and number; role and way by luck."""
    cases = []
    for call in CALLS:
        ways = [way for way in WAYS if way != "ENOSPC" or call not in NEVER_FULL]
        cases += [(luck.choice(ROLES), f"{call} {number} {luck.choice(ways)}") for number in range(1, NUMBERS + 1)]
    return cases


def outcome(case: tuple[str, str]) -> str:
    """What is wrong at the end; "" if nothing is."""
    role, step = case
    home = FaultyHome(seed=5)
    trio = Trio(home, records=RECORDS)
    try:
        for each in ROLES:
            trio.start(each, step=step if each == role else "")
        verdict = trio.run_to_the_end()
        wrong = "" if verdict.is_clean and verdict.signals else f"{role} {step}: {verdict}"
    except Stuck as stuck:
        wrong = f"{role} {step}: {stuck}"
    finally:
        trio.end()
        home.close()
    return wrong


def outcomes(cases: list[tuple[str, str]]) -> Iterator[str]:
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        yield from pool.map(outcome, cases)


@pytest.fixture
def luck() -> random.Random:
    seed = int(os.environ.get("STRATEGY_RUNNER_SEED") or random.SystemRandom().randrange(2**32))
    print(f"STRATEGY_RUNNER_SEED={seed} chooses the same steps again")
    return random.Random(seed)


def test_a_sample_of_faults_at_exact_steps_changes_nothing(luck: random.Random) -> None:
    cases = luck.sample(all_cases(luck), CASES)
    assert [wrong for wrong in outcomes(cases) if wrong] == []


@pytest.mark.slow
@pytest.mark.timeout(7_200)
def test_faults_at_every_step_change_nothing(luck: random.Random) -> None:
    assert [wrong for wrong in outcomes(all_cases(luck)) if wrong] == []

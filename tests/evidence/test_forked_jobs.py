"""Jobs in forked children: each gives its result or the way it died, and none of them disturbs another."""

import os
import signal

import pytest

from strategy_runner.supervision.forked import Ended, run_forked


def quiet(done: int, of: int) -> None:
    assert 0 <= done <= of


def test_results_come_back_under_their_names_in_the_order_of_the_jobs() -> None:
    large = os.urandom(1 << 20)
    ended = run_forked({"one": lambda: b"1", "large": lambda: large, "none": lambda: b""}, parallel=2, show=quiet)
    assert list(ended.items()) == [("one", Ended(0, b"1")), ("large", Ended(0, large)), ("none", Ended(0, b""))]


def test_a_job_that_dies_says_how_and_the_others_end_as_ever() -> None:
    def die() -> bytes:
        os.kill(os.getpid(), signal.SIGKILL)
        return b"never"

    def leave() -> bytes:
        os._exit(9)

    ended = run_forked({"crash": die, "leave": leave, "fine": lambda: b"fine"}, parallel=1, show=quiet)
    assert {name: end.code for name, end in ended.items()} == {"crash": -signal.SIGKILL, "leave": 9, "fine": 0}
    assert ended["fine"].result == b"fine"


def test_what_a_job_raises_is_told_on_stderr_and_ends_it_with_1(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> bytes:
        os.write(1, b"not for the parent's stdout")
        raise ValueError("no luck")

    assert run_forked({"fail": fail}, parallel=1, show=quiet) == {"fail": Ended(1, b"")}
    out, err = capfd.readouterr()
    assert out == ""
    assert "ValueError: no luck" in err

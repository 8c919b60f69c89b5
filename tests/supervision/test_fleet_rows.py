"""For how long a row of `status` says that its process has been at what it does."""

from strategy_runner.supervision.fleet import _since_ns
from strategy_runner.supervision.reports import ProcessReport
from strategy_runner.tape.status import Status

PAGE = Status(pid=1, since_ns=5)  # of the process before the one that runs
REPORT = ProcessReport("acme", "router", "RUNNING", pid=2, started_ns=70, exit_status=None, spawn_error="")


def test_what_has_just_begun_is_not_told_with_the_age_of_the_one_before_it() -> None:
    assert _since_ns(PAGE, REPORT, "starting") == 70
    assert _since_ns(PAGE, REPORT, "trading") == 5
    assert _since_ns(PAGE, None, "stopped") == 5
    assert _since_ns(Status(), REPORT, "failed") == 70

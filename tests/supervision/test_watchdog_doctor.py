"""What the doctor says of the watchdog: that it is missing, what it sees, what it did."""

import os
import time
from pathlib import Path

from strategy_runner.config.home import Home
from strategy_runner.monitor.checks_processes import check_watchdog
from strategy_runner.monitor.host import look_at_host
from strategy_runner.supervision.conditions import Action, ActionLog, Board
from strategy_runner.tape.lock import FolderLock

DAEMON = 4711


def home_with_plan(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    (home.daemon / "specs" / "monitor").mkdir(parents=True)
    (home.daemon / "specs" / "monitor" / "watchdog.json").touch()
    home.monitor.mkdir()
    return home


def test_a_daemon_without_its_watchdog_is_an_error(tmp_path: Path) -> None:
    home = home_with_plan(tmp_path)
    [missing] = check_watchdog(home, look_at_host(home), DAEMON)
    assert (missing.level, missing.subject, missing.found) == ("error", "monitor:watchdog", "no process")
    lock = FolderLock(home.monitor)
    [there] = check_watchdog(home, look_at_host(home), DAEMON)
    assert (there.level, there.found) == ("ok", "did nothing within the last 24 h")
    lock.release()
    [down] = check_watchdog(home, look_at_host(home), None)
    assert down.level == "ok", "no daemon, no watchdog"


def test_what_the_watchdog_sees_is_a_warning_and_what_it_did_is_counted(tmp_path: Path) -> None:
    home = home_with_plan(tmp_path)
    lock = FolderLock(home.monitor)
    log = ActionLog(home.monitor)
    day_ns = 24 * 3_600_000_000_000
    for at_ns in (time.time_ns() - 2 * day_ns, time.time_ns(), time.time_ns()):
        log.append(Action(at_ns=at_ns, name="acme:x.Y", pid=os.getpid(), action="killed", reason="no beat"))
    log.append(Action(at_ns=time.time_ns(), name="acme:x.Y", pid=os.getpid(), action="rotated", reason="its log"))
    log.close()
    [did] = check_watchdog(home, look_at_host(home), DAEMON)
    assert did.found == "killed 2, rotated 1 within the last 24 h"

    board = Board(home.monitor)
    board.show("market:feed", "stale", "the feed is silent", since_ns=time.time_ns() - 7_500_000_000)
    board.write()
    [sees] = check_watchdog(home, look_at_host(home), DAEMON)
    assert (sees.level, sees.subject, sees.found) == ("warning", "market:feed", "the feed is silent (for 7 s)")
    lock.release()
    (home.daemon / "specs" / "monitor" / "watchdog.json").unlink()
    [gone] = check_watchdog(home, look_at_host(home), DAEMON)
    assert gone.level == "ok", "all that it watched was stopped, and it with them"

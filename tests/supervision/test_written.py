"""What processes were told last is read once by each verb, however many of its steps need it."""

import subprocess
import sys
from pathlib import Path

from strategy_runner.config.home import Home
from strategy_runner.supervision.layout import init_home
from strategy_runner.supervision.wishes import Wish, Wishes, write_wishes

CLIENT = """
[accounts]
BTC-USD = { venue = "binance", account = "main" }

[[strategies]]
id = "cross"
strategy = "moving_average_crossover"
symbols = ["BTC-USD"]
timeframe = "10s"
params = { fast = 2, slow = 4 }
"""
# in a process of its own, since whoever looks on while files are opened never stops
VERBS = """
import os, sys
from collections import Counter
from pathlib import Path
from strategy_runner.config.home import Home
from strategy_runner.supervision import steering
from strategy_runner.supervision.target import parse_target

def look(event, found):
    if event == "open" and "/specs/" in str(found[0]) and not found[2] & (os.O_WRONLY | os.O_RDWR):
        opened[Path(str(found[0])).stem] += 1

home, opened = Home(Path(sys.argv[1])), Counter()
steering.prepare(home, os.environ)
sys.addaudithook(look)
for verb in (
    lambda: steering.prepare(home, os.environ),
    lambda: steering.apply(home, os.environ),
    lambda: steering.stop(home, [parse_target("acme")], os.environ),
):
    opened.clear()
    verb()
    print(sorted(opened.items()))
"""


def test_each_specification_is_read_once_by_each_verb(tmp_path: Path) -> None:
    init_home(tmp_path)
    (tmp_path / "clients" / "acme").mkdir(parents=True)
    (tmp_path / "clients" / "acme" / "client.toml").write_text(CLIENT)
    home = Home(tmp_path)
    home.daemon.mkdir(parents=True)
    write_wishes(home, Wishes(clients={"acme": Wish()}))
    ended = subprocess.run([sys.executable, "-c", VERBS, tmp_path], capture_output=True, text=True, check=False)
    once = str([(name, 1) for name in ("cross.BTC-USD", "feed", "router", "watchdog")])
    assert (ended.stdout.splitlines(), ended.stderr) == ([once] * 3, "")

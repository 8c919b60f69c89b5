"""A copy of a home that was stopped goes on elsewhere, where the original had stopped: nothing is lost and nothing doubled."""

import shutil
from collections import Counter

from end_to_end.harness import CROSSOVER, Firm, told, until
from end_to_end.own_strategies import LISTENER

FILLS = 40
# what docs/runbook.md says may be left out of a copy
LEFT_OUT = ("run", "logs", "lock", "operator.lock", "status")
CLIENT = (
    CROSSOVER
    + """
[[strategies]]
id = "listener"
strategy = "listener"
symbols = ["BTC-USD"]
timeframe = "1m"
"""
)


def test_a_copy_of_a_stopped_home_goes_on_where_the_original_ended_with_nothing_lost_or_doubled(firm: Firm) -> None:
    firm.edit("configs/local-dev.toml", "\nspeed = 60.0 ", "\nspeed = 600.0 ")
    firm.write("clients/acme/client.toml", CLIENT)
    firm.write("clients/acme/strategies/listener.py", LISTENER)
    firm.run("start", "acme")
    until(lambda: len(firm.run("fills", "acme", "-o", "name").lines) >= FILLS, f"{FILLS} fills")
    firm.run("down")
    before = recorded(firm)
    head = firm.run("audit", "verify", "acme", "-o", "json").json()

    copy = Firm(init=False)
    try:
        shutil.copytree(firm.root, copy.root, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*LEFT_OUT))
        for folder in firm.root.iterdir():
            shutil.rmtree(folder)
        (warned,) = [line for line in copy.run("doctor").lines if "of this home" in line]
        assert warned.startswith("warning"), warned
        assert recorded(copy) == before

        copy.run("up")
        until(lambda: len(copy.run("fills", "acme", "-o", "name").lines) >= 2 * FILLS, "fills of the copy")
        assert {row["trading_state"] for row in copy.status().values()} == {
            "publishing",
            "watching",
            "filling",
            "routing",
            "trading",
        }
        copy.run("down")
        after = recorded(copy)
        for what, lines in before.items():
            assert after[what][: len(lines)] == lines, what
            assert max(Counter(after[what]).values()) == 1, what
        assert copy.run("doctor").code == 0
        pinned = f"{head['entries'] - 1}:{head['head']}"
        copy.run("audit", "verify", "acme", "--pinned", pinned)
        parity = copy.run("parity", "acme", "-o", "json", code=None)
        assert parity.json()["equal"], told(parity)
        assert list(firm.root.iterdir()) == [], "something was written where the original had been"
    finally:
        copy.close()


def recorded(firm: Firm) -> dict[str, list[str]]:
    """What workers, router and OMS have on the disk, each in its order."""
    workers = sorted(path.name for path in (firm.home.client_state("acme", "mock") / "workers").iterdir())
    targets = {f"signals of {name}": name.replace(".", ":", 1) for name in workers}
    return {
        **{what: firm.bodies(f"acme:{target}").splitlines() for what, target in targets.items()},
        "fills": [str(fill) for fill in firm.run("fills", "acme", "-o", "json").json()],
        "audit trail": firm.run("audit", "export", "acme", "--format", "json").lines,
    }

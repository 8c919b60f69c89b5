"""The pool of a run in the foreground: no wait once a child has ended."""

import subprocess
import sys
from pathlib import Path

from strategy_runner.errors import ConfigurationError

# in a process of its own, since it forks; looks at progress are an hour apart, and one child at a time may run
RUN = """
import sys
from pathlib import Path
from strategy_runner.supervision import pool
pool.LOOK_INTERVAL_S = 3_600.0
specs = [(Path(name), Path(f"{name}.log")) for name in sys.argv[1:]]
print(*pool.run_all(specs, parallel=1, show=lambda: None).values())
"""


def test_whoever_waits_for_children_goes_on_as_soon_as_they_have_ended(tmp_path: Path) -> None:
    missing = [str(tmp_path / name) for name in ("one.json", "two.json", "three.json")]
    ran = subprocess.run([sys.executable, "-c", RUN, *missing], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.split() == [str(ConfigurationError.exit_code)] * 3

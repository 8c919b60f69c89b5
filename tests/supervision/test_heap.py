"""The heap that workers are forked from: nobody counts what it holds, in a process of its own, since that cannot be undone."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

# what a worker uses of the zygote's: a function, its code and constants, its module's names, a class and an instance
PLAY = """
import gc, sys
from pathlib import Path
from strategy_runner.supervision import heap
from strategy_runner.tape.reader import TapeReader

class Made: pass
made, numbers = Made(), [10**20, "some text"]
used = [Path.read_text, Path.read_text.__code__, Path.read_text.__code__.co_names, TapeReader, TapeReader.__dict__["find"],
        made, numbers, numbers[0], numbers[1], vars(heap)]
heap.settle_heap()
after = object()
assert all(sys.getrefcount(one) == sys.getrefcount(None) for one in used), [sys.getrefcount(one) for one in used]
kept = list(used)
assert sys.getrefcount(made) == sys.getrefcount(None)
del kept, made, numbers
used.clear()
assert sys.getrefcount(after) == 2  # what comes later is counted, and freed
gc.collect()
print(Path(sys.argv[1]).read_text())
"""


@pytest.mark.skipif(
    sys.version_info < (3, 12) or bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    reason="this Python counts the references of every object",
)
def test_what_the_zygote_has_made_is_used_without_counting_and_what_comes_later_is_counted(
    tmp_path: Path,
) -> None:
    (tmp_path / "text").write_text("still works")

    ended = subprocess.run([sys.executable, "-c", PLAY, tmp_path / "text"], capture_output=True, text=True, check=False)

    assert (ended.stdout, ended.stderr) == ("still works\n", "")

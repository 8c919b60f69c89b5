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
assert min(map(sys.getrefcount, used)) >= 1 << 31, [sys.getrefcount(one) for one in used]
counted, kept = sys.getrefcount(made), list(used)
assert sys.getrefcount(made) == counted
del kept, made, numbers
used.clear()
assert sys.getrefcount(after) <= 2  # what comes later is counted, and freed
gc.collect()
print(Path(sys.argv[1]).read_text())
"""


# code that cannot be specialised, among what stays as it is
CALL = """
import os, signal, sys
from strategy_runner.supervision import heap

names, spacing = [f"add{i}" for i in range(100)], []
for name in names:
    exec(f"def {name}(one): return one" + " + one" * 80)
    spacing.append(bytes(5000))
def still(): return spacing
functions = [globals()[name] for name in names]

def use():
    for function in functions:
        for one in (1, "a", 1.5, [2]) * 20:
            function(one)
    for _ in range(20):
        still()

def found_on_a_child():
    ready, done = os.pipe()
    child = os.fork()
    if child == 0:
        use()
        os.write(done, b".")
        signal.pause()
    os.read(ready, 1)
    try:
        return heap.restless_code(child)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)

def pages(): return len({id(function.__code__) // 4096 for function in functions})

use()
heap.settle_heap()
found, scattered = found_on_a_child(), pages()
assert {function.__code__ for function in functions} <= set(found) and still.__code__ not in found, found
heap.gather(found)
use()
heap.settle_heap()
assert [function("a") for function in functions] == ["a" * 81] * 100
fewest = sum(sys.getsizeof(function.__code__) for function in functions) / 4096
assert pages() < 1.3 * fewest + 2 and pages() * 2 < scattered, (pages(), fewest, scattered)
assert not {function.__code__ for function in functions} & set(found_on_a_child())
print("gathered")
"""


needs_immortal_objects = pytest.mark.skipif(
    sys.version_info < (3, 12) or bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    reason="this Python counts the references of every object",
)


@needs_immortal_objects
def test_code_that_a_child_writes_to_is_found_and_gathered_on_few_pages_and_works_there() -> None:
    ended = subprocess.run([sys.executable, "-c", CALL], capture_output=True, text=True, check=False)

    assert (ended.stdout, ended.stderr) == ("gathered\n", "")


@needs_immortal_objects
def test_what_the_zygote_has_made_is_used_without_counting_and_what_comes_later_is_counted(
    tmp_path: Path,
) -> None:
    (tmp_path / "text").write_text("still works")

    ended = subprocess.run([sys.executable, "-c", PLAY, tmp_path / "text"], capture_output=True, text=True, check=False)

    assert (ended.stdout, ended.stderr) == ("still works\n", "")

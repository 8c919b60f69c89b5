"""Client code runs in a child: whatever it does there, the command line gets an answer or a problem with a file's name."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from worker.processes import await_that, is_alive

from strategy_runner.errors import ConfigurationError
from strategy_runner.strategies.describe import Use, resolve, unheard_of
from strategy_runner.strategies.generation import code_digest
from strategy_runner.strategies.interface import Inputs
from strategy_runner.strategies.registry import BUILTIN

HEADER = "from strategy_runner.strategies.interface import Inputs, Params, Strategy\n"
MINE = "class Mine(Strategy):\n    inputs = Inputs(quotes=True, timer='5s', symbols=('ETH-USD',))\n"
PARAMS = "class MineParams(Params, frozen=True):\n    bars: int = 3\n    def __post_init__(self):\n        {check}\n"


def write(home: Path, **files: str) -> Path:
    folder = home / "clients" / "ada" / "strategies"
    folder.mkdir(parents=True)
    for stem, text in files.items():
        (folder / f"{stem}.py").write_text(HEADER + text)
    return folder


def problems(folder: Path, timeout_s: float = 20.0) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        resolve(folder, [], timeout_s)
    return caught.value.problems


def test_it_describes_built_in_and_own_strategies(tmp_path: Path) -> None:
    folder = write(tmp_path, mine=MINE)
    built_in, mine = (one.description for one in resolve(folder, [Use("swing_high", {}, "a"), Use("mine", {}, "b")]))
    assert built_in.inputs == BUILTIN["swing_high"].inputs
    assert (built_in.code, built_in.code_digest) == ("", code_digest(BUILTIN["swing_high"]))
    assert mine.inputs == Inputs(quotes=True, timer="5s", symbols=("ETH-USD",))
    assert mine.code == str(folder / "mine.py")


def test_callbacks_that_nothing_calls_are_told(tmp_path: Path) -> None:
    slips = """
class Deaf(Strategy):
    inputs = Inputs(bars=True, timer="5s")
    def on_bra(self, bar): ...
    def on_trade(self, trade): ...
    def on_the_whole(self): ...


class Sound(Strategy):
    inputs = Inputs(bars=True)
    def on_bars(self, bars): ...
"""
    where = "clients/ada/strategies/deaf.py: Deaf"
    assert unheard_of(write(tmp_path, deaf=slips), ["deaf", "sound", "swing_high"]) == [
        f"{where}.on_bra: valid, and called by nothing; did you mean on_bar?",
        f"{where}.on_trade: valid, and never called: its inputs name no trades",
        f"{where}.inputs.bars: valid, and heard by nothing: there is no on_bar",
        f"{where}.inputs.timer: valid, and heard by nothing: there is no on_timer",
    ]


def test_client_code_runs_in_another_process_and_prints_to_stderr(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text = "import strategy_runner.model\nstrategy_runner.model.touched = True\nprint('loud')\n"
    resolve(write(tmp_path, mine=text + MINE), [])
    assert not hasattr(sys.modules["strategy_runner.model"], "touched")
    out, err = capfd.readouterr()
    assert out == ""
    assert "loud" in err


@pytest.mark.parametrize("side", ["parent", "child"])
def test_an_interrupt_at_the_birth_of_the_child_ends_both_without_a_word(tmp_path: Path, side: str) -> None:
    code = f"""
import os, signal
from pathlib import Path
from strategy_runner.strategies.describe import resolve
os.register_at_fork(after_in_{side}=lambda: os.kill(os.getpid(), signal.SIGINT))
try:
    resolve(Path({str(write(tmp_path, mine=MINE))!r}), [])
except BaseException as error:
    print(type(error).__name__)
try:
    os.waitpid(-1, os.WNOHANG)
    print("a child is left")
except ChildProcessError:
    pass
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ended = {"parent": "KeyboardInterrupt", "child": "ConfigurationError"}[side]
    assert (ran.stdout, ran.stderr) == (f"{ended}\n", "")


def unseen(code: str) -> str:
    """Code that the guard cannot read, as that of a library that crashes."""
    return f"exec(bytes.fromhex('{code.encode().hex()}').decode())\n"


def test_a_fault_of_a_file_is_the_same_problem_as_in_a_worker(tmp_path: Path) -> None:
    folder = write(tmp_path, bad="1 / 0\n", mine=MINE)
    assert problems(folder) == ("clients/ada/strategies/bad.py: line 2: ZeroDivisionError: division by zero",)


@pytest.mark.parametrize(
    ("crash", "end"),
    [
        ("import os; os._exit(7)", "ended the process with exit status 7"),
        ("import os; os._exit(0)", "ended the process with exit status 0"),
        ("import faulthandler; faulthandler.disable(); faulthandler._sigsegv()", "killed the process by SIGSEGV"),
    ],
)
def test_a_crash_names_the_file_that_was_being_imported(tmp_path: Path, crash: str, end: str) -> None:
    folder = write(tmp_path, a_good=MINE, bad=unseen(crash))
    assert problems(folder) == (f"clients/ada/strategies/bad.py: expected its code to run, found it {end}",)


def test_a_hang_ends_at_the_timeout(tmp_path: Path) -> None:
    assert problems(write(tmp_path, bad="while True:\n    pass\n"), timeout_s=1.5) == (
        "clients/ada/strategies/bad.py: expected its code to run within 1.5 s, found it still running",
    )


def test_what_a_library_started_ends_with_the_timeout_or_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = tmp_path / "started"
    (tmp_path / "described_busy.py").write_text(
        "import atexit, signal, subprocess, threading, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"open({str(started)!r}, 'a').write(f\"{{subprocess.Popen(['sleep', '600']).pid}}\\n\")\n"
        "atexit.register(time.sleep, 600)\nthreading.Thread(target=time.sleep, args=(600,)).start()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    folder = write(tmp_path, mine="import described_busy\n" + MINE)
    assert resolve(folder, [Use("mine", {}, "a")], timeout_s=10.0)
    (folder / "mine.py").write_text(HEADER + "import described_busy\nwhile True:\n    pass\n")
    assert problems(folder, timeout_s=1.5)[0].endswith("within 1.5 s, found it still running")
    pids = started.read_text().split()
    assert len(pids) == 2
    for pid in pids:  # nobody has waited for those
        await_that(lambda pid=pid: not is_alive(int(pid)), f"the end of {pid}")  # type: ignore[misc]


def test_no_child_is_left_behind(tmp_path: Path) -> None:
    before = psutil.Process().children()  # whoever runs the tests may have some
    resolve(write(tmp_path, mine=MINE), [])
    assert psutil.Process().children() == before


def test_uses_come_back_in_order_with_their_params_complete(tmp_path: Path) -> None:
    folder = write(tmp_path, mine=PARAMS.format(check="pass") + MINE + "    Params = MineParams\n")
    uses = [
        Use("mine", {"bars": 4}, "client.toml: strategies[0]"),
        Use("moving_average_crossover", {"fast": 5}, "client.toml: strategies[1]"),
    ]
    mine, crossover = resolve(folder, uses)
    assert (mine.params, mine.description.code) == ({"bars": 4}, str(folder / "mine.py"))
    assert (crossover.params, crossover.description.code) == ({"fast": 5, "slow": 50}, "")


def test_every_faulty_use_is_named(tmp_path: Path) -> None:
    uses = [
        Use("swing_hgih", {}, "client.toml: strategies[0]"),
        Use("swing_low", {"bars": 1}, "client.toml: strategies[1]"),
    ]
    with pytest.raises(ConfigurationError) as caught:
        resolve(tmp_path / "clients" / "ada" / "strategies", uses)
    unknown, wrong = caught.value.problems
    assert unknown.startswith("client.toml: strategies[0]: strategy: expected one of mean_reversion, ")
    assert unknown.endswith("did you mean swing_high?")
    assert wrong.startswith("client.toml: strategies[1]: params.bars: expected one of lookback_bars, exit_after_bars")


@pytest.mark.parametrize(
    ("default", "problem"),
    [
        ("float = float('inf')", "expected a finite number, found inf"),
        ("Annotated[int, Meta(ge=1)] = 0", "expected int >= 1, found 0"),
        ("str = None", "expected str, found None"),
    ],
)
def test_a_default_that_no_worker_would_take_is_named(tmp_path: Path, default: str, problem: str) -> None:
    imports = "from typing import Annotated\nfrom msgspec import Meta\n"
    params = f"class MineParams(Params, frozen=True):\n    bars: {default}\n"
    folder = write(tmp_path, mine=imports + params + MINE + "    Params = MineParams\n")
    with pytest.raises(ConfigurationError) as caught:
        resolve(folder, [Use("mine", {}, "a.toml")])
    assert caught.value.problems == (f"a.toml: params.bars: {problem}",)


def test_a_check_of_params_that_kills_names_its_file(tmp_path: Path) -> None:
    check = unseen("import faulthandler; faulthandler.disable(); faulthandler._sigsegv()").strip()
    folder = write(
        tmp_path, z_good=MINE, bad=PARAMS.format(check=check) + "class Bad(Strategy):\n    Params = MineParams\n"
    )
    with pytest.raises(ConfigurationError, match=r"strategies/bad\.py: .* killed the process by SIGSEGV"):
        resolve(folder, [Use("mine", {}, "x"), Use("bad", {}, "x")])

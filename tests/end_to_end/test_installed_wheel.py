"""pip install is enough: a home laid out by the installed wheel runs, with no checkout in sight."""

import subprocess
import sys
import venv
from pathlib import Path

import pytest
from end_to_end.harness import Firm, clean_environment, until

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The strategy-runner of a new virtual environment with our wheel; its dependencies are those that run this test."""
    wheels = tmp_path_factory.mktemp("wheels")
    pip_wheel = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(wheels)]
    built = subprocess.run([*pip_wheel, str(REPOSITORY)], capture_output=True, text=True, check=False)
    if built.returncode:
        # without its build backend at hand pip fetches it
        pip_wheel.remove("--no-build-isolation")
        built = subprocess.run([*pip_wheel, str(REPOSITORY)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (wheel,) = wheels.glob("strategy_runner-*.whl")
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True, with_pip=False)
    python = folder / "bin" / "python"
    packages = next((folder / "lib").glob("python*")) / "site-packages"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", str(wheel)]
    subprocess.run(install, check=True, env=clean_environment(None))
    ours = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "dependencies.pth").write_text("\n".join(ours) + "\n")
    found = subprocess.run(
        [python, "-c", "import strategy_runner; print(strategy_runner.__file__)"],
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
        env=clean_environment(None),
    )
    assert Path(found.stdout.strip()).is_relative_to(folder), "the checkout would prove nothing"
    return folder / "bin" / "strategy-runner"


def test_the_installed_wheel_lays_out_a_home_and_runs_it(installed: Path) -> None:
    with Firm(init=False, command=(installed,)) as firm:
        laid_out = firm.run("init", firm.root).lines
        assert laid_out == [str(firm.root / name) for name in ("clients", "configs", "supervisor")]
        assert firm.run("check").err == "ok: christian, ikenna, odum\n"
        firm.edit("configs/local-dev.toml", "speed = 60.0 ", "speed = 600.0 ")
        started = firm.run("start", "all").err.splitlines()
        assert started[-1] == f"ready: {len(firm.status())} processes"
        until(lambda: len(firm.run("signals", "all", "-o", "name").lines) > 5, "signals")
        firm.run("down")
        assert firm.processes() == {}

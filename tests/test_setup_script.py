"""scripts/setup makes its virtual environment with the newest Python that works, also where only pyenv has it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SETUP = Path(__file__).parents[1] / "scripts" / "setup"
# answers the question for its version, and makes an environment that says by which Python
WORKS = (
    '#!/bin/sh\n[ "$1" = -c ] || { mkdir -p .venv/bin; ln -s /bin/true .venv/bin/python; echo "$0" >.venv/made_by; }\n'
)
REFUSES = "#!/bin/sh\nexit 127\n"


@pytest.mark.parametrize(
    ("on_path", "of_pyenv", "expected"),
    [
        (
            {"python3.13": REFUSES, "python3.11": WORKS},
            {"3.13.9": WORKS, "3.13.10": WORKS},
            "pyenv/versions/3.13.10/bin/python3.13",
        ),
        (
            {"python3.13": REFUSES, "python3.11": WORKS},
            {"3.13.9": WORKS, "3.13.10": REFUSES},
            "pyenv/versions/3.13.9/bin/python3.13",
        ),
        (
            {"python3.13": REFUSES, "python3.11": WORKS},
            {"3.13.0t": WORKS, "3.13.0rc1": WORKS, "3.12.1": WORKS},
            "pyenv/versions/3.12.1/bin/python3.12",
        ),
        ({"python3.13": WORKS}, {"3.13.9": WORKS}, "bin/python3.13"),
        ({"python3.12": WORKS}, {"3.11.9": WORKS}, "bin/python3.12"),
        ({"python3": WORKS}, {}, "bin/python3"),
    ],
)
def test_the_newest_python_that_works_is_taken(
    tmp_path: Path, on_path: dict[str, str], of_pyenv: dict[str, str], expected: str
) -> None:
    for name, text in on_path.items():
        _program(tmp_path / "bin" / name, text)
    for version, text in of_pyenv.items():
        _program(tmp_path / "pyenv" / "versions" / version / "bin" / f"python{version[:4]}", text)
    assert _set_up(tmp_path) == str(tmp_path / expected)


def test_an_environment_that_is_there_stays(tmp_path: Path) -> None:
    _program(tmp_path / "bin" / "python3.12", WORKS)
    assert _set_up(tmp_path) == str(tmp_path / "bin" / "python3.12")
    _program(tmp_path / "bin" / "python3.13", WORKS)
    assert _set_up(tmp_path) == str(tmp_path / "bin" / "python3.12")


def _program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def _set_up(folder: Path) -> str:
    """The Python that scripts/setup made the environment of a clone with; on PATH are only `bin` and what a shell needs."""
    clone, tools = folder / "clone", folder / "tools"
    (clone / "scripts").mkdir(parents=True, exist_ok=True)
    shutil.copy(SETUP, clone / "scripts")
    (clone / "pyproject.toml").touch()
    tools.mkdir(exist_ok=True)
    for name in ("bash", "cmp", "cp", "dirname", "ln", "mkdir", "sh", "sort"):
        found = shutil.which(name)
        assert found, name
        (tools / name).unlink(missing_ok=True)
        (tools / name).symlink_to(found)
    subprocess.run(
        ["bash", "scripts/setup"],
        cwd=clone,
        env={**os.environ, "PATH": f"{folder / 'bin'}:{tools}", "PYENV_ROOT": str(folder / "pyenv")},
        check=True,
        capture_output=True,
        timeout=60,
    )
    return (clone / ".venv" / "made_by").read_text().strip()

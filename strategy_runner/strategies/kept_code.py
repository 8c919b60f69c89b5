"""A client's code as it was when its workers were started: kept, so that whatever is edited since waits for `apply`.

    var/code/DIGEST/clients/CLIENT/strategies/    the client's code files, and what Python has compiled of them
    var/code/DIGEST/clients/CLIENT/admitted       that the determinism guard has read them; a digest of all of these files

A worker imports its strategy from there. So it comes back from a crash with the code that its generation is named after,
also where the file is gone or broken by now; the past can be run again with the code it was made with; and a start neither
parses nor compiles anything, which takes 6 ms and 2 MB where a thousand workers do it. A folder is named by its contents and by
the Python that compiled them, since another one would compile them in each worker again, and never changes.
"""

import os
import py_compile
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from hashlib import blake2b
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import cache_from_source
from pathlib import Path

from strategy_runner.errors import ConfigurationError, naming
from strategy_runner.small_files import sync_path

_SUFFIXES = (".py", *EXTENSION_SUFFIXES)
_ADMITTED = "admitted"


def code_files(folder: Path) -> dict[str, Path]:
    """Every file below a client's strategies folder that Python may import, by its name from there."""
    return {str(path.relative_to(folder)): path for path in sorted(_files_below(folder, ()))}


def folder_digest(folder: Path) -> str:
    """32 hex digits over names and contents of all code files, and this Python, as far as what it compiles is its own."""
    return _name_of({name: path.read_bytes() for name, path in code_files(folder).items()})


def keep(folder: Path, kept: Path) -> None:
    """Copies the code of a strategies folder that the guard has admitted to `kept`, the folder of its digest.

    Nothing is there, or all of it. Raises ConfigurationError if the code has another digest by now, OSError.
    """
    contents = {name: path.read_bytes() for name, path in code_files(folder).items()}
    client = kept.parent
    if _name_of(contents) != kept_digest(kept):
        raise ConfigurationError(f"{folder}: expected the code that was read a moment ago, found it edited; try again")
    new = client.with_name(f".{client.name}.new")
    shutil.rmtree(new, ignore_errors=True)  # left behind by a start that was killed
    for name, content in contents.items():
        path = new / kept.name / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(path, content)
        if path.suffix == ".py":
            _compile(path, shown=kept / name)
    _write(new / _ADMITTED, _digest_of_all(new / kept.name).encode())
    for parent, _, _ in os.walk(new):
        sync_path(Path(parent))
    new.rename(client)
    sync_path(client.parent)


def is_admitted(code: Path) -> bool:
    """Whether a strategy's file is one of a kept folder: the guard has read it, and it has not changed since."""
    return (code.parent.parent / _ADMITTED).exists()


def kept_digest(kept: Path) -> str:
    """The digest that a folder is named by, if it is a kept one."""
    return kept.parents[2].name


def is_whole(kept: Path) -> bool:
    """Whether a kept folder holds what was written to it, compiled code too. Raises OSError."""
    return (kept.parent / _ADMITTED).read_bytes() == _digest_of_all(kept).encode()


def _files_below(folder: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    """A link that leads back to a folder above it is not followed."""
    real = folder.resolve()
    if real in above or not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.is_dir():
            yield from _files_below(path, (*above, real))
        elif path.name.endswith(_SUFFIXES) and path.is_file():
            yield path


def _name_of(contents: dict[str, bytes]) -> str:
    return _digest({"compiled by": str(sys.implementation.cache_tag).encode(), **contents})


def _digest(contents: dict[str, bytes]) -> str:
    digest = blake2b(digest_size=16)
    for name, content in contents.items():
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def _digest_of_all(kept: Path) -> str:
    files = sorted(path for path in kept.rglob("*") if path.is_file())
    return _digest({str(path.relative_to(kept)): path.read_bytes() for path in files})


def _compile(path: Path, shown: Path) -> None:
    """What an import takes without a look at the source; a file that does not compile is left to whoever imports it."""
    with suppress(py_compile.PyCompileError, ValueError):
        compiled = cache_from_source(path)
        py_compile.compile(
            str(path),
            compiled,
            str(shown),
            doraise=True,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
        sync_path(Path(compiled))


def _write(path: Path, content: bytes) -> None:
    with naming(path), path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())

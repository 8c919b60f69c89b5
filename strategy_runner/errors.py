"""The exceptions of Strategy Runner, each with the exit code a command ends with.

StrategyRunnerError                1  something failed; the message says what
├── UsageError                     2  the command line asks for something that does not exist
├── NotRunningError                3  the daemon, a client or a worker is not running
├── TimeoutExpiredError            5  it did not happen within the time given
├── ConfigurationError             6  edit a file: the message names file, key, expected and found
│   └── DeterminismError           6  a strategy reached for what a replay cannot repeat
├── SafetyRefusal                  8  a safety rule says no
├── StateError                     1  state on disk is not what it must be
│   ├── CorruptRecordError         1  a record or frame below the durable mark fails its check
│   ├── VersionMismatchError       1  what is on the disk was written by another version, or for one
│   ├── LockedError                1  another process holds the folder
│   └── DivergenceError            1  re-derived signals differ from the ones already recorded
├── StrategyError                  1  a strategy raised; carries the record that did it
└── DiskFullError                  1  no space left: nothing was published that could not be kept
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Gives an OSError the file that it is about: one of a write, such as of a full disk, names none. Raises it then."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


class StrategyRunnerError(Exception):
    """Base of all errors raised on purpose."""

    exit_code = 1


class UsageError(StrategyRunnerError):
    exit_code = 2


class NotRunningError(StrategyRunnerError):
    exit_code = 3


class TimeoutExpiredError(StrategyRunnerError):
    exit_code = 5


class ConfigurationError(StrategyRunnerError):
    """A file must be edited. `problems` holds one line per fault: `file: key: expected ..., found ...`."""

    exit_code = 6

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class DeterminismError(ConfigurationError):
    """A strategy reached for what a replay cannot repeat; its file must be edited."""


class SafetyRefusal(StrategyRunnerError):  # noqa: N818  a refusal is the system working, not an error of its own
    exit_code = 8


class StateError(StrategyRunnerError):
    """State on disk is not what it must be."""


class CorruptRecordError(StateError):
    """A record or frame fails its check where it must be whole."""


class VersionMismatchError(StateError):
    """What is on the disk was written by another version, or for one."""


class LockedError(StateError):
    """Another process holds the folder."""


class DivergenceError(StateError):
    """A re-derived signal differs from the one already recorded."""


class StrategyError(StrategyRunnerError):
    """A strategy raised while it handled a record; the message names the record."""


class DiskFullError(StrategyRunnerError):
    """No space is left for the next segment."""


def reason_of(error: OSError) -> str:
    """What a message says after "found"."""
    return str(error.strerror or error).lower()


@contextmanager
def sparing(faults: list[StrategyRunnerError]) -> Iterator[None]:
    """What is wrong with the files of one of many is kept in `faults`, so that it takes the others from nobody."""
    try:
        yield
    except StrategyRunnerError as error:
        faults.append(error)
    except OSError as error:
        if error.filename is None:
            raise
        faults.append(StateError(f"{error.filename}: expected a readable file, found: {reason_of(error)}"))


def raise_all(faults: Sequence[StrategyRunnerError]) -> None:
    """Raises all of them as one, if there are any, with the smallest exit code of theirs: damage (1) is told before what does not
    run (3), and that before a file that a person can edit (6)."""
    if len(faults) == 1:
        raise faults[0]
    if faults:
        worst = min((type(one) for one in faults), key=lambda kind: kind.exit_code)
        told = list(dict.fromkeys(str(one) for one in faults))
        raise worst(*told) if issubclass(worst, ConfigurationError) else worst("\n".join(told))

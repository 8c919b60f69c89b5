"""The version of everything below HOME/var, written once and checked at every start.

1   the first
2   a signal's envelope says when its record was received, a decision by what age it was ruled
"""

from strategy_runner.config.home import STATE_VERSION, Home
from strategy_runner.errors import VersionMismatchError
from strategy_runner.small_files import read_whole, replace_file


def check_state_version(home: Home) -> None:
    """Write HOME/var/VERSION into a new state folder. Raises VersionMismatchError when it says another version."""
    path = home.var / "VERSION"
    try:
        found = read_whole(path).decode(errors="replace").strip()
    except FileNotFoundError:
        # durably: an empty file after a power cut would be another version, and nothing would start
        replace_file(path, f"{STATE_VERSION}\n".encode(), synced="name")
        return
    if found != str(STATE_VERSION):
        raise VersionMismatchError(
            f"{path}: expected state version {STATE_VERSION}, found {found!r}; "
            f"go on with the release that wrote {home.var}, or move it away to begin anew"
        )

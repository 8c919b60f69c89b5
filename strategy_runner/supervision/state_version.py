"""The version of everything below HOME/var, written once and checked at every start."""

from strategy_runner.config.home import STATE_VERSION, Home
from strategy_runner.errors import VersionMismatchError


def check_state_version(home: Home) -> None:
    """Write HOME/var/VERSION into a new state folder. Raises VersionMismatchError when it says another version."""
    path = home.var / "VERSION"
    try:
        found = path.read_text().strip()
    except FileNotFoundError:
        temporary = path.with_suffix(".new")
        temporary.write_text(f"{STATE_VERSION}\n")
        temporary.replace(path)
        return
    if found != str(STATE_VERSION):
        raise VersionMismatchError(
            f"{path}: expected state version {STATE_VERSION}, found {found!r}; "
            f"go on with the release that wrote {home.var}, or move it away to begin anew"
        )

"""The home folder: clients/, configs/, supervisor/ and var/ (state). Its folders are named here, and the sockets in it."""

import os
from pathlib import Path

import msgspec

from strategy_runner.errors import ConfigurationError, UsageError
from strategy_runner.model.names import WorkerKey

STATE_VERSION = 2
# sun_path of a UNIX socket holds 108 bytes including its final NUL (man 7 unix)
SOCKET_PATH_BYTES_MAX = 107


class Home(msgspec.Struct, frozen=True):
    """Paths below one home folder. `root` is absolute."""

    root: Path

    @classmethod
    def find(cls, given: str | None) -> "Home":
        """The folder given on the command line, else STRATEGY_RUNNER_HOME, else the current folder.

        Raises UsageError for a file.
        """
        root = Path(given or os.environ.get("STRATEGY_RUNNER_HOME") or ".").expanduser().resolve()
        if root.is_file():
            raise UsageError(f"{root}: expected a folder with clients/, configs/ and var/, found a file")
        return cls(root)

    @property
    def clients(self) -> Path:
        return self.root / "clients"

    @property
    def configs(self) -> Path:
        return self.root / "configs"

    @property
    def templates(self) -> Path:
        return self.root / "supervisor"

    @property
    def var(self) -> Path:
        return self.root / "var"

    @property
    def daemon(self) -> Path:
        return self.var / "daemon"

    @property
    def sockets(self) -> Path:
        return self.var / "run"

    @property
    def supervisor_socket(self) -> Path:
        return self.sockets / "supervisor.sock"

    @property
    def monitor(self) -> Path:
        """The watchdog's folder: its status, what it sees, what it did."""
        return self.var / "monitor"

    def client_config(self, client: str) -> Path:
        return self.clients / client / "client.toml"

    def client_strategies(self, client: str) -> Path:
        return self.clients / client / "strategies"

    @property
    def code(self) -> Path:
        """Clients' own code as it was when workers were started (strategies/kept_code.py)."""
        return self.var / "code"

    def kept_strategies(self, client: str, digest: str) -> Path:
        """Where a client's strategies folder is kept, by the digest of its code files."""
        return self.code / digest / "clients" / client / "strategies"

    def live_code(self, client: str, code: str) -> str:
        """Where a client edits the file of a strategy that may be kept; "" for a built-in one."""
        return str(self.client_strategies(client) / Path(code).name) if code else ""

    def environment_config(self, environment: str) -> Path:
        return self.configs / f"{environment}.toml"

    def market(self, mode: str) -> Path:
        """The feed's folder: tape, checkpoint, status. One for each mode that has a feed."""
        return self.var / "market" / mode

    def market_endpoint(self, purpose: str) -> str:
        """ZeroMQ address of the feed's socket: `doorbell`, `frames`, or `private`, where order desks ring."""
        return self._endpoint(f"market-{purpose}.sock")

    def client_state(self, client: str, mode: str) -> Path:
        return self.var / "clients" / client / mode

    def backtest(self, client: str) -> Path:
        """What the one `backtest` of a client that may run at a time holds."""
        return self.var / "backtests" / client

    def worker(self, key: WorkerKey, mode: str) -> Path:
        return self.client_state(key.client, mode) / "workers" / key.folder

    def router(self, client: str, mode: str) -> Path:
        return self.client_state(client, mode) / "router"

    def fills(self, client: str, mode: str) -> Path:
        """A client's fill log, of which only digests leave its folder."""
        return self.client_state(client, mode) / "fills.log"

    def oms(self, mode: str) -> Path:
        """The paper OMS's folder, with one in it for each client's book."""
        return self.var / "oms" / mode

    def database(self, client: str, mode: str) -> Path:
        return self.client_state(client, mode) / "signals.duckdb"

    def router_endpoint(self, client: str, purpose: str) -> str:
        """ZeroMQ address of a client's router: `doorbell` or `sql`."""
        return self._endpoint(f"{client}-{purpose}.sock")

    def oms_endpoint(self, client: str) -> str:
        """ZeroMQ address of a client's own line to the paper OMS; that of its news is longer (oms/protocol.py)."""
        checked_socket(self.sockets / f"{client}-oms-news.sock")
        return self._endpoint(f"{client}-oms.sock")

    def log(self, program: str) -> Path:
        """Log file of a program: `client:strategy.symbol` lies in logs/client/strategy.symbol.log."""
        group, _, name = program.partition(":")
        return self.var / "logs" / group / f"{name}.log"

    def _endpoint(self, name: str) -> str:
        return f"ipc://{checked_socket(self.sockets / name)}"


def checked_socket(path: Path) -> Path:
    """The path, if a UNIX socket can have it. Raises ConfigurationError with the length found."""
    length = len(os.fsencode(path))
    if length > SOCKET_PATH_BYTES_MAX:
        raise ConfigurationError(
            f"{path}: socket path: expected at most {SOCKET_PATH_BYTES_MAX} bytes, found {length}; use a home with a shorter path"
        )
    return path

"""A mock run whose processes were killed while it went, and the ways in which tests damage a copy of what it left."""

import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from end_to_end.harness import Firm, until
from end_to_end.own_strategies import LISTENER

from strategy_runner.config.home import Home
from strategy_runner.model.record import SIZE, record_crc
from strategy_runner.model.signal import LoggedSignal
from strategy_runner.tape.files import head_path
from strategy_runner.tape.head import Head
from strategy_runner.tape.logs import AppendLog, read_log
from strategy_runner.worker.outbox import decode_logged

CROSS, LISTENING, LOW = "cross.BTC-USD", "listener.BTC-USD", "low.ETH-USD"
KILLS = (f"acme:{CROSS}", "market:feed", f"acme:{LISTENING}", "acme:router", f"acme:{LOW}")
SIGNALS = 60
SEGMENT_RECORDS = 4_096
RECORDS = SEGMENT_RECORDS * 3 // 2  # so that there is a second segment with something in it
CLIENT = """
routes = ["quantconnect"]

[accounts]
BTC-USD = { venue = "binance", account = "acme-main" }
ETH-USD = { venue = "binance", account = "acme-main" }

[[strategies]]
id = "cross"
strategy = "moving_average_crossover"
symbols = ["BTC-USD"]
timeframe = "10s"
params = { fast = 2, slow = 5 }

[[strategies]]
id = "low"
strategy = "swing_low"
symbols = ["ETH-USD"]
timeframe = "10s"
models = [
    { id = "one", confidence_threshold = 0.5, lookback_window = 5, weight = 1.0 },
    { id = "two", confidence_threshold = 0.5, lookback_window = 5, weight = 2.0 },
]
params = { lookback_bars = 3, exit_after_bars = 3 }

[[strategies]]
id = "listener"
strategy = "listener"
symbols = ["BTC-USD"]
timeframe = "1m"
"""


@contextmanager
def killed_run() -> Iterator[Firm]:
    """A firm that is down, after a run in which every kind of process was killed and went on."""
    with Firm() as firm:
        firm.edit("configs/local-dev.toml", "segment_records = 262_144", "segment_records = 4_096")
        firm.edit("configs/local-dev.toml", "\nspeed = 60.0 ", "\nspeed = 600.0 ")
        firm.write("clients/acme/client.toml", CLIENT)
        firm.write("clients/acme/strategies/listener.py", LISTENER)
        firm.run("start", "acme")
        for name in KILLS:
            # one that has not run for a second is started again only after a pause
            until(lambda name=name: firm.states().get(name) == "RUNNING", f"{name} running")  # type: ignore[misc]
            firm.await_new_pid(name, firm.kill(name))
        until(lambda: len(firm.bodies("acme").splitlines()) >= SIGNALS, f"{SIGNALS} signals")
        head = head_path(firm.home.market("mock") / "tape")
        until(lambda: Head(head).count >= RECORDS, f"{RECORDS} records")
        firm.run("down")
        yield firm


class Copy(Firm):
    """A home with what another one left. A test that starts nothing in it has nothing to stop."""

    def close(self) -> None:
        if self.processes():
            super().close()
        else:
            shutil.rmtree(self.root)


@contextmanager
def copied(recorded: Firm) -> Iterator[Firm]:
    """A home of one's own with the same contents, to be damaged."""
    firm = Copy(init=False)
    try:
        shutil.copytree(recorded.root, firm.root, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.sock"))
        yield firm
    finally:
        firm.close()


def worker_folder(home: Home, worker: str) -> Path:
    return home.client_state("acme", "mock") / "workers" / worker


def signal_log(home: Home, worker: str) -> Path:
    return worker_folder(home, worker) / "signals.log"


def logged(path: Path) -> list[LoggedSignal]:
    return [decode_logged(payload) for payload in read_log(path)]


def rewrite(path: Path, change: Callable[[list[LoggedSignal]], list[LoggedSignal]]) -> None:
    """The log with other signals in it, each frame of them whole."""
    frames = [msgspec.msgpack.encode(signal) for signal in change(logged(path))]
    path.unlink()
    log = AppendLog(path)
    log.append_many(frames)
    log.close()


def with_body(signal: LoggedSignal, body: bytes) -> LoggedSignal:
    return LoggedSignal(signal.envelope, signal.digest, body)


def flip(path: Path, offset: int, bit: int = 0) -> None:
    """One bit, and the file's times with it."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1 << bit]))


def segment_of(tape: Path, seq: int) -> tuple[Path, int]:
    """The segment of a record, and the offset of the record in it."""
    first = seq // SEGMENT_RECORDS * SEGMENT_RECORDS
    return tape / f"seg-{first:015d}.tape", (seq - first) * SIZE


def forge(tape: Path, seq: int, values: tuple[float, ...]) -> None:
    """Other first values in a record, with a crc that fits them."""
    path, offset = segment_of(tape, seq)
    with path.open("r+b") as file:
        file.seek(offset)
        raw = bytearray(file.read(SIZE))
        struct.pack_into(f"<{len(values)}d", raw, 32, *values)
        raw[:4] = record_crc(seq, bytes(raw)).to_bytes(4, "little")
        file.seek(offset)
        file.write(raw)
